"""Adversarial losses: hand values, which side saturates, pairing, the energy models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax import losses

NAMES = ("minimax", "non_saturating", "least_squares", "hinge", "wasserstein", "relativistic")
LN2 = np.log(2)
SOFTPLUS_1 = 1.3132616875182228  # ln(1 + e)
SOFTPLUS_2 = 2.1269280110429727  # ln(1 + e^2)


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("minimax", [2 * LN2, SOFTPLUS_1 - 1 + SOFTPLUS_2], [-LN2, -SOFTPLUS_2]),
        ("non_saturating", [2 * LN2, SOFTPLUS_1 - 1 + SOFTPLUS_2], [LN2, SOFTPLUS_2 - 2]),
        ("least_squares", [0.5, 2.0], [0.5, 0.5]),
        ("hinge", [2.0, 3.0], [0.0, -2.0]),
        ("wasserstein", [0.0, 1.0], [0.0, -2.0]),
        ("relativistic", [LN2, SOFTPLUS_1], [LN2, SOFTPLUS_1 - 1]),
    ],
)
def test_hand_values(name, discriminator, generator):
    real, fake = jnp.array([0.0, 1.0]), jnp.array([0.0, 2.0])
    make = getattr(losses, f"{name}_generator_loss")
    got = make(real, fake) if name == "relativistic" else make(fake)
    np.testing.assert_allclose(getattr(losses, f"{name}_discriminator_loss")(real, fake), discriminator, rtol=1e-6)
    np.testing.assert_allclose(got, generator, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_real_comes_first_and_large_logits_stay_finite(name):
    discriminator = getattr(losses, f"{name}_discriminator_loss")
    # A critic that ranks real above fake pays less than one that ranks them the other way.
    assert discriminator(jnp.float32(3.0), jnp.float32(-3.0)) < discriminator(jnp.float32(-3.0), jnp.float32(3.0))
    logits = jnp.array([-1e4, -200.0, 0.0, 200.0, 1e4])
    value, gradients = jax.jit(jax.value_and_grad(lambda r, f: discriminator(r, f).sum(), argnums=(0, 1)))(
        logits, -logits
    )
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


def slope(fn, fake):
    return float(jax.grad(fn)(jnp.float32(fake)))


def test_minimax_saturates_and_non_saturating_does_not():
    np.testing.assert_allclose(losses.minimax_generator_loss(jnp.array([3.0])), -np.log1p(np.exp(3.0)), rtol=1e-6)
    np.testing.assert_allclose(slope(losses.minimax_generator_loss, -20.0), -np.exp(-20.0), rtol=1e-5)
    np.testing.assert_allclose(slope(losses.non_saturating_generator_loss, -20.0), -1.0, rtol=1e-6)
    # One objective up to the sign at the boundary: both have slope -1/2 there.
    assert slope(losses.minimax_generator_loss, 0.0) == slope(losses.non_saturating_generator_loss, 0.0) == -0.5


def test_relativistic_is_paired_and_not_the_batch_average():
    real, fake = jnp.array([0.0, 4.0]), jnp.array([1.0, -3.0])
    before = losses.relativistic_discriminator_loss(real, fake)
    after = losses.relativistic_discriminator_loss(real, fake.at[1].set(9.0))
    assert before[0] == after[0]
    assert before[1] != after[1]
    average = np.logaddexp(0, np.mean(fake) - np.asarray(real))
    assert np.abs(before - average).max() > 0.1
    np.testing.assert_array_equal(losses.relativistic_generator_loss(real, fake), jax.nn.softplus(real - fake))
    # Only the difference counts.
    np.testing.assert_allclose(losses.relativistic_discriminator_loss(real + 7, fake + 7), before, rtol=1e-6)


def test_energy_margin():
    real, fake = jnp.array([1.0, 1.0]), jnp.array([4.0, 12.0])
    np.testing.assert_allclose(losses.energy_discriminator_loss(real, fake, margin=10.0), [7.0, 1.0])
    gradient = jax.grad(lambda f: losses.energy_discriminator_loss(real, f, margin=10.0).sum())(fake)
    np.testing.assert_array_equal(gradient, [-1.0, 0.0])


def test_pulling_away_values_and_gradient():
    s = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    np.testing.assert_allclose(losses.pulling_away(s), (0.5 + 0.0 + 0.5) / 3, rtol=1e-6)
    np.testing.assert_allclose(losses.pulling_away(jnp.ones((4, 3))), 1.0, rtol=1e-6)
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(losses.pulling_away(scale * s), 1 / 3, rtol=1e-5)
    moved = s - 0.05 * jax.jit(jax.grad(losses.pulling_away))(s)
    assert losses.pulling_away(moved) < losses.pulling_away(s)
    with pytest.raises(ValueError, match="pairs"):
        losses.pulling_away(s[:1])
    with pytest.raises(ValueError, match="at least 2 axes"):
        losses.pulling_away(s[:, 0])


def test_pulling_away_sees_pre_activations_where_sparse_codes_tell_nothing():
    pre = jnp.array([[2.0, -1.0, -0.5], [-1.0, 3.0, -1.0]])
    of_codes = jax.value_and_grad(lambda p: losses.pulling_away(jax.nn.relu(p)))
    value, gradient = of_codes(pre)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0.0)
    assert np.abs(jax.jit(jax.grad(losses.pulling_away))(pre)).min() > 1e-3
    gradient = jax.jit(jax.grad(losses.pulling_away))(pre.at[0].set(0.0))
    np.testing.assert_array_equal(gradient, 0.0)


def test_began_balance():
    real, fake = jnp.array([1.0, 3.0]), jnp.array([0.5, 0.7])
    k, convergence = losses.began_balance(0.25, real, fake, gamma=0.5, lambda_k=0.1)
    np.testing.assert_allclose(k, 0.25 + 0.1 * (0.5 * 2 - 0.6), rtol=1e-6)
    np.testing.assert_allclose(convergence, 2 + 0.4, rtol=1e-6)
    assert losses.began_balance(0.99, real, fake, gamma=0.5, lambda_k=1.0).k == 1
    low = losses.began_balance(jnp.float32(0.01), fake, real, gamma=0.5, lambda_k=1.0)
    assert low.k == 0
    np.testing.assert_allclose(low.convergence, 0.6 + abs(0.3 - 2), rtol=1e-6)

    def step(k, _):
        k = losses.began_balance(k, real, fake, gamma=0.5, lambda_k=1e-2).k
        return k, k

    # A fake energy below gamma times the real one raises k at a constant pace, as a carry of scan.
    np.testing.assert_allclose(jax.lax.scan(step, jnp.zeros(()), None, length=3)[1], [0.004, 0.008, 0.012], rtol=1e-5)
