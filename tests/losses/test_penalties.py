"""Gradient penalties: closed forms, where they are evaluated, independence of examples, gradients at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from saegan_jax import losses

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
REAL, FAKE = (jnp.asarray(RNG.random((5, 4, 4, 2)), jnp.float32) for _ in range(2))
WEIGHTS = jnp.asarray(RNG.normal(size=(32, 8)), jnp.float32)


def critic(x):
    return jnp.sum(jnp.tanh(x.reshape(x.shape[0], -1) @ WEIGHTS), axis=1)


PENALTIES = {
    "r1": lambda c, x: losses.r1_penalty(c, x),
    "r2": lambda c, x: losses.r2_penalty(c, x),
    "gradient": lambda c, x: losses.gradient_penalty(c, x, FAKE[: len(x)], KEY),
    "dragan": lambda c, x: losses.dragan_penalty(c, x, KEY),
}
each_penalty = pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)


def test_r1_of_a_quadratic_critic_in_closed_form():
    a = RNG.normal(size=(6, 6))
    b = RNG.normal(size=6)
    x = RNG.normal(size=(7, 6))
    matrix, bias = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)

    def quadratic(x):
        return jnp.einsum("bi,ij,bj->b", x, matrix, x) / 2 + x @ bias

    want = [np.linalg.norm((a + a.T) / 2 @ row + b) ** 2 for row in x]
    images = jnp.asarray(x, jnp.float32)
    logits, squared_norm = losses.logits_and_gradient_norm(quadratic, images)
    np.testing.assert_allclose(losses.r1_penalty(quadratic, images), want, rtol=1e-5)
    np.testing.assert_allclose(squared_norm, want, rtol=1e-5)
    np.testing.assert_allclose(logits, [row @ a @ row / 2 + row @ b for row in x], rtol=1e-4)


def test_norm_is_each_examples_own_from_one_forward_pass():
    calls = []

    def counted(x):
        calls.append(x.shape)
        return critic(x)

    logits, squared_norm = losses.logits_and_gradient_norm(counted, REAL)
    assert calls == [REAL.shape]
    np.testing.assert_array_equal(logits, critic(REAL))
    own = [jnp.sum(jax.grad(lambda x: critic(x[None])[0])(x) ** 2) for x in REAL]
    np.testing.assert_allclose(squared_norm, own, rtol=1e-5)


@pytest.mark.parametrize("name", ["r1", "r2", "gradient"])
def test_an_example_does_not_move_the_others(name):
    before = PENALTIES[name](critic, REAL)
    after = PENALTIES[name](critic, REAL.at[2].multiply(0.5))
    np.testing.assert_allclose(np.delete(after, 2), np.delete(before, 2), rtol=1e-6)
    assert abs(after[2] - before[2]) > 1e-3


@each_penalty
def test_a_sweep_over_critics_equals_one_at_a_time(penalty):
    def scaled(scale):
        return penalty(lambda x: scale * critic(x), REAL)

    mapped = jax.jit(jax.vmap(scaled))(jnp.array([0.5, 2.0]))
    assert mapped.shape == (2, 5)
    assert np.all(mapped > 0)
    np.testing.assert_allclose(mapped, [scaled(0.5), scaled(2.0)], rtol=1e-4)


@each_penalty
def test_gradient_in_the_critics_parameters_equals_finite_differences(penalty):
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(REAL, np.float64))
        weights, direction = (jnp.asarray(np.random.default_rng(s).normal(size=(32, 8))) for s in (1, 2))

        def loss(w):
            y = jnp.asarray(np.asarray(FAKE, np.float64))

            def c(x):
                return jnp.sum(jnp.tanh(x.reshape(5, -1) @ w), axis=1)

            if penalty is PENALTIES["gradient"]:
                return losses.gradient_penalty(c, x, y, KEY).sum()
            return penalty(c, x).sum()

        run = jax.jit(jax.value_and_grad(loss))
        numeric = (run(weights + 1e-6 * direction)[0] - run(weights - 1e-6 * direction)[0]) / 2e-6
        np.testing.assert_allclose(np.vdot(run(weights)[1], direction), numeric, rtol=1e-5)


@pytest.mark.parametrize("dead", [lambda x: 0 * x.sum((1, 2, 3)), lambda x: jnp.zeros(len(x)) * x[:, 0, 0, 0]])
def test_a_critic_without_slope_has_a_finite_gradient(dead):
    for name in ("gradient", "dragan"):

        def loss(scale, penalty=PENALTIES[name]):
            return penalty(lambda x: scale * dead(x), REAL).sum()

        value, gradient = jax.jit(jax.value_and_grad(loss))(1.0)
        assert value == 5
        assert gradient == 0
    # And where the slope is 0 only because the weight is.
    of_weight = jax.value_and_grad(lambda w: PENALTIES["gradient"](lambda x: w * critic(x), REAL).sum())
    value, gradient = jax.jit(of_weight)(0.0)
    assert value == 5
    assert np.isfinite(gradient)


def half_square(x):  # its gradient is the point at which it is evaluated
    return jnp.sum(x**2, axis=1) / 2


def test_interpolation_is_uniform_and_one_per_example():
    real = jnp.ones((4000, 3)) / jnp.sqrt(3.0)
    penalty = losses.gradient_penalty(half_square, real, jnp.zeros_like(real), KEY)
    epsilon = 1 - np.sqrt(penalty)  # (|| eps x || - 1)^2 with ||x|| = 1
    assert stats.kstest(epsilon, "uniform").pvalue > 0.01
    assert len(np.unique(epsilon)) > 3000
    # One epsilon for all pixels of an example: (|sum_p y_p| / sqrt(3) * ||(1, 1, 1)|| - 1)^2 has the same norm only then.
    along = losses.gradient_penalty(lambda x: jnp.sum(x, axis=1) ** 2 / 6, real, jnp.zeros_like(real), KEY)
    np.testing.assert_allclose(along, penalty, rtol=1e-4, atol=1e-6)
    other = losses.gradient_penalty(half_square, real, jnp.zeros_like(real), jax.random.key(1))
    assert np.abs(penalty - other).max() > 0.1


def test_gradient_penalty_weighs_real_by_epsilon():
    # On the segment from fake 0 to real e_1 the point is (eps, 0); with the roles swapped it is (1 - eps, 0).
    real, fake = jnp.array([[1.0, 0.0]]), jnp.zeros((1, 2))
    forth = 1 - jnp.sqrt(losses.gradient_penalty(half_square, real, fake, KEY))
    back = 1 - jnp.sqrt(losses.gradient_penalty(half_square, fake, real, KEY))
    np.testing.assert_allclose(forth + back, 1.0, rtol=1e-5)
    np.testing.assert_allclose(forth, jax.random.uniform(KEY, (1,)), rtol=1e-5)


def test_dragan_stays_near_the_data_and_scales_with_its_spread():
    real = jnp.asarray(np.random.default_rng(5).normal(size=(2000, 6)) * 4 + 20, jnp.float32)

    @jax.jit
    def points(x):
        return losses.dragan_penalty(half_square, x, KEY)

    shift = 1 + np.sqrt(points(real)) - np.linalg.norm(real, axis=1)  # every norm is above 1, so the root is norm - 1
    assert np.abs(shift).max() <= 0.5 * np.std(real) * np.sqrt(6)
    # On images far from 0, moving up by a u / 2 per pixel lengthens them by about its mean, std / 8, times sqrt(6).
    np.testing.assert_allclose(shift.mean(), np.std(real) / 8 * np.sqrt(6), rtol=0.05)
    # a is shared by an example's pixels: the variance of a mean(u) / 2 over 6 pixels is this and not a sixth of var(a u / 2).
    want = (1 / 3 * (1 / 4 + 1 / 72) - 1 / 16) / 4
    np.testing.assert_allclose((shift / np.std(real) / np.sqrt(6)).var(), want, rtol=0.1)
    # Without spread there is nothing to add, and no NaN from the standard deviation's slope.
    flat = jnp.full((4, 6), 3.0)
    np.testing.assert_allclose(points(flat), (3 * np.sqrt(6) - 1) ** 2, rtol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(lambda x: points(x).sum()))(flat)).all()


def test_lecam():
    real, fake = jnp.array([1.0, 2.0]), jnp.array([-1.0, 0.5])
    np.testing.assert_allclose(losses.lecam(real, fake, 0.5, -0.5), [2.25 + 2.25, 6.25 + 0.0], rtol=1e-6)
    anchors = jax.grad(lambda r, f: losses.lecam(real, fake, r, f).sum(), argnums=(0, 1))(0.5, -0.5)
    assert anchors == (0.0, 0.0)


@pytest.mark.parametrize(
    "bad",
    [
        lambda x: x.mean((1, 2, 3))[:, None],
        lambda x: x.mean(),
        lambda x: (critic(x), critic(x)),
        lambda x: critic(x)[:-1],
        lambda x: x,
        lambda x: jnp.argmax(x.reshape(5, -1), axis=1),
    ],
    ids=["column", "scalar", "auxiliary", "short", "image", "integer"],
)
@each_penalty
def test_a_critic_of_another_shape_is_refused(penalty, bad):
    with pytest.raises(ValueError, match=r"The critic returned .* must return floating logits \(5,\)"):
        penalty(bad, REAL)


def test_uint8_images_are_refused_by_name():
    image = jnp.zeros((2, 4, 4, 1), jnp.uint8)
    with pytest.raises(ValueError, match=r"^real has dtype uint8.*scale uint8 images"):
        losses.r1_penalty(critic, image)
    with pytest.raises(ValueError, match=r"^fake has dtype uint8"):
        losses.r2_penalty(critic, image)
    with pytest.raises(ValueError, match="Shapes differ: real"):
        losses.gradient_penalty(critic, REAL, FAKE[:3], KEY)


def test_an_nnx_critic_with_state_is_split_from_it():
    from flax import nnx
    from flax.errors import TraceContextError

    class Critic(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.norm, self.drop, self.out = (
                nnx.BatchNorm(3, rngs=rngs),
                nnx.Dropout(0.5, rngs=rngs),
                nnx.Linear(3, 1, rngs=rngs),
            )

        def __call__(self, x):
            return self.out(self.drop(self.norm(x)))[:, 0]

    critic, x = Critic(), jnp.ones((2, 3))
    with pytest.raises(TraceContextError):
        losses.r1_penalty(critic, x)
    critic.eval()
    graph, state = nnx.split(critic)
    value = losses.r1_penalty(lambda images: nnx.merge(graph, state)(images), x)
    weights = critic.out.kernel[...] / jnp.sqrt(1 + 1e-5)
    np.testing.assert_allclose(value, jnp.full(2, jnp.sum(jnp.square(weights))), rtol=1e-4)
