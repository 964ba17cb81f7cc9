"""What every loss owes its caller: the oracle's value, right gradients, jit and vmap, float32 from 16 bits, refusals.

The oracles are written in float64 numpy and scipy, from other formulas than the package's.
"""

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy.spatial.distance import cosine

from saegan_jax import losses

W = np.random.default_rng(9).normal(size=6) * 0.4
DEAD = np.array([True, False, True, True, False, True, True])


def critic(x):
    return jnp.tanh(x.reshape(x.shape[0], -1) @ jnp.asarray(W, x.dtype))


def critic_squared_norm(x):
    flat = x.reshape(len(x), -1)
    return np.array([np.sum((np.cosh(row @ W) ** -2 * W) ** 2) for row in flat])


def bernoulli_kl(p, q):
    return special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q)


def hoyer(h):
    n = h.shape[-1]
    return np.array([(n**0.5 - np.linalg.norm(r, 1) / np.linalg.norm(r)) / (n**0.5 - 1) for r in h])


def sae_oracle(x, x_hat, logits):
    total = 0.0
    for a, b in zip(x.reshape(len(x), -1), x_hat.reshape(len(x), -1), strict=True):
        total += np.linalg.norm(a - b) ** 2 / 2
    rho_hat = special.expit(logits).reshape(-1, logits.shape[-1]).mean(0)
    return total / len(x) + 3.0 * bernoulli_kl(0.05, rho_hat).sum()


def auxk_oracle(e, pre, w_dec):
    out = []
    for row, a in zip(e, pre, strict=True):
        best = [j for j in np.argsort(-a) if DEAD[j]][:2]
        out.append(np.linalg.norm(row - sum(a[j] * w_dec[j] for j in best)) ** 2)
    return np.array(out) / np.mean(np.linalg.norm(e, axis=1) ** 2)


def pulling_away_oracle(s):
    flat = s.reshape(len(s), -1)
    pairs = list(itertools.combinations(flat, 2))
    return np.mean([(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) ** 2 for a, b in pairs])


def gaussian_oracle(mean, log_variance):
    s = np.exp(log_variance / 2)
    return -np.log(s) + (s**2 + mean**2) / 2 - 0.5


def spike_oracle(mean, log_variance, gate):
    gamma = special.expit(gate)
    return gamma * gaussian_oracle(mean, log_variance) + bernoulli_kl(gamma, 0.2)


class Case(NamedTuple):
    fn: Callable
    oracle: Callable
    shapes: tuple[tuple[int, ...], ...]
    positive: bool = False  # inputs in (0.1, 0.9) instead of normal
    atol16: float = 1e-5  # more where a critic itself computes in 16 bits

    def inputs(self, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        draw = (lambda s: rng.uniform(0.1, 0.9, s)) if self.positive else (lambda s: rng.normal(size=s))
        return [draw(shape) for shape in self.shapes]


PAIR = ((5, 3), (5, 3))
IMAGES = (4, 2, 3)
nll = lambda z: -special.log_expit(z)  # noqa: E731
CASES = {
    "minimax_discriminator": Case(losses.minimax_discriminator_loss, lambda r, f: nll(r) + nll(-f), PAIR),
    "minimax_generator": Case(losses.minimax_generator_loss, lambda f: np.log(1 - special.expit(f)), PAIR[:1]),
    "non_saturating_discriminator": Case(losses.non_saturating_discriminator_loss, lambda r, f: nll(r) + nll(-f), PAIR),
    "non_saturating_generator": Case(losses.non_saturating_generator_loss, nll, PAIR[:1]),
    "least_squares_discriminator": Case(
        losses.least_squares_discriminator_loss, lambda r, f: (1 - 2 * r + r * r + f * f) / 2, PAIR
    ),
    "least_squares_generator": Case(losses.least_squares_generator_loss, lambda f: (f * f + 1) / 2 - f, PAIR[:1]),
    "hinge_discriminator": Case(
        losses.hinge_discriminator_loss, lambda r, f: np.where(r < 1, 1 - r, 0) + np.where(f > -1, 1 + f, 0), PAIR
    ),
    "hinge_generator": Case(losses.hinge_generator_loss, np.negative, PAIR[:1]),
    "wasserstein_discriminator": Case(losses.wasserstein_discriminator_loss, lambda r, f: -(r - f), PAIR),
    "wasserstein_generator": Case(losses.wasserstein_generator_loss, np.negative, PAIR[:1]),
    "relativistic_discriminator": Case(losses.relativistic_discriminator_loss, lambda r, f: nll(r - f), PAIR),
    "relativistic_generator": Case(losses.relativistic_generator_loss, lambda r, f: nll(f - r), PAIR),
    "energy_discriminator": Case(
        lambda r, f: losses.energy_discriminator_loss(r, f, margin=0.5),
        lambda r, f: r + np.clip(0.5 - f, 0, None),
        PAIR,
        positive=True,
    ),
    "pulling_away": Case(losses.pulling_away, pulling_away_oracle, (IMAGES,)),
    "began_balance": Case(
        lambda r, f: jnp.stack(losses.began_balance(0.5, r, f, gamma=0.7, lambda_k=0.1)),
        lambda r, f: np.array(
            [0.5 + 0.1 * (0.7 * r.mean() - f.mean()), max((1 + 0.7) * r.mean() - f.mean(), 0.3 * r.mean() + f.mean())]
        ),
        PAIR,
        positive=True,
    ),
    "r1_penalty": Case(lambda x: losses.r1_penalty(critic, x), critic_squared_norm, (IMAGES,), atol16=1e-2),
    "r2_penalty": Case(lambda x: losses.r2_penalty(critic, x), critic_squared_norm, (IMAGES,), atol16=1e-2),
    "gradient_penalty": Case(
        lambda x: losses.gradient_penalty(critic, x, x, jax.random.key(1)),
        lambda x: (np.sqrt(critic_squared_norm(x)) - 1) ** 2,
        (IMAGES,),
        atol16=1e-2,
    ),
    "lecam": Case(
        lambda r, f: losses.lecam(r, f, 0.3, -0.2), lambda r, f: np.abs(r + 0.2) ** 2 + np.abs(0.3 - f) ** 2, PAIR
    ),
    "mean_activation": Case(losses.mean_activation, lambda h: np.mean(h, axis=0), ((5, 3),)),
    "kl_sparsity": Case(lambda r: losses.kl_sparsity(r, 0.05), lambda r: bernoulli_kl(0.05, r), ((7,),), positive=True),
    "kl_sparsity_from_logits": Case(
        lambda z: losses.kl_sparsity_from_logits(z, 0.05),
        lambda z: bernoulli_kl(0.05, special.expit(z).mean(0)),
        ((6, 4),),
    ),
    "kl_sparsity_rate": Case(
        lambda r: losses.kl_sparsity_rate(2 * r, 0.05), lambda r: special.kl_div(0.05, 2 * r), ((7,),), positive=True
    ),
    "l1_sparsity": Case(losses.l1_sparsity, lambda h: np.linalg.norm(h, 1, axis=-1), ((5, 3),)),
    "hoyer_sparsity": Case(losses.hoyer_sparsity, hoyer, ((5, 4),)),
    "sae_loss": Case(lambda *a: losses.sae_loss(*a, rho=0.05, beta=3.0), sae_oracle, ((4, 2, 3), (4, 2, 3), (4, 5))),
    "auxk_loss": Case(lambda e, a, w: losses.auxk_loss(e, a, w, DEAD, k_aux=2), auxk_oracle, ((5, 3), (5, 7), (7, 3))),
    "gaussian_kl": Case(losses.gaussian_kl, gaussian_oracle, PAIR),
    "spike_and_slab_kl": Case(
        lambda *a: losses.spike_and_slab_kl(*a, alpha=0.2), spike_oracle, ((5, 3), (5, 3), (5, 3))
    ),
    "elbo": Case(
        lambda p, k: losses.elbo(p, k, beta=0.5),
        lambda p, k: np.einsum("bij->b", p) - np.einsum("bi->b", k) / 2,
        ((4, 2, 3), (4, 5)),
    ),
    "cycle_consistency": Case(
        losses.cycle_consistency, lambda x, y: np.linalg.norm((x - y).reshape(4, -1), 1, axis=1) / 6, (IMAGES, IMAGES)
    ),
    "identity_mapping": Case(
        losses.identity_mapping, lambda x, y: np.linalg.norm((x - y).reshape(4, -1), 1, axis=1) / 6, (IMAGES, IMAGES)
    ),
    "code_cosine_distance": Case(
        losses.code_cosine_distance, lambda h, g: [cosine(a, b) for a, b in zip(h, g, strict=True)], PAIR
    ),
    "code_squared_error": Case(losses.code_squared_error, lambda h, g: np.linalg.norm(h - g, axis=1) ** 2 / 3, PAIR),
    "activity_cross_entropy": Case(
        losses.activity_cross_entropy, lambda y, z: np.mean(y * nll(z) + (1 - y) * nll(-z), axis=1), PAIR
    ),
    "semantic_consistency": Case(
        losses.semantic_consistency,
        lambda f, g: -special.log_softmax(g, axis=1)[np.arange(len(f)), f.argmax(axis=1)],
        PAIR,
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
MANY = {name: case for name, case in CASES.items() if len(case.shapes) > 1}


def float32(arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


@each_case
def test_equals_the_oracle(case):
    inputs = case.inputs()
    got, want = case.fn(*float32(inputs)), case.oracle(*inputs)
    assert got.dtype == jnp.float32
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@each_case
def test_gradient_equals_finite_differences(case):
    with jax.enable_x64(True):
        inputs = [jnp.asarray(a) for a in case.inputs(seed=1)]
        if case is CASES["auxk_loss"]:  # the residual is held constant on purpose
            fn, inputs = (lambda a, w, e=inputs[0]: case.fn(e, a, w)), inputs[1:]
        else:
            fn = case.fn
        out = jax.eval_shape(fn, *inputs)
        assert out.dtype == jnp.float64
        rng, h = np.random.default_rng(2), 1e-5
        weight = jnp.asarray(rng.normal(size=out.shape))
        run = jax.jit(jax.value_and_grad(lambda *a: jnp.sum(weight * fn(*a)), argnums=tuple(range(len(inputs)))))
        gradients = run(*inputs)[1]
        for i, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
            for _ in range(3):
                direction = jnp.asarray(rng.normal(size=x.shape))
                up, down = (run(*inputs[:i], x + s * direction, *inputs[i + 1 :])[0] for s in (h, -h))
                np.testing.assert_allclose(np.vdot(gradient, direction), (up - down) / (2 * h), rtol=1e-6, atol=1e-8)


@each_case
def test_jit_and_vmap_change_nothing(case):
    members = [float32(case.inputs(seed)) for seed in range(3)]
    plain = np.stack([case.fn(*member) for member in members])
    mapped = jax.jit(jax.vmap(case.fn))(*(jnp.stack(arrays) for arrays in zip(*members, strict=True)))
    np.testing.assert_allclose(mapped, plain, rtol=1e-5, atol=1e-6)


@each_case
def test_16_bit_input_is_summed_in_float32(case):
    inputs = [jnp.asarray(a, jnp.bfloat16) for a in case.inputs()]
    got = case.fn(*inputs)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(
        got, case.oracle(*(np.asarray(a, np.float64) for a in inputs)), rtol=2e-5, atol=case.atol16
    )


@each_case
def test_integers_and_empty_arrays_are_refused(case):
    good = float32(case.inputs())
    for i, x in enumerate(good):
        with pytest.raises(ValueError, match=r"has dtype int32.*astype"):
            case.fn(*good[:i], jnp.ones(x.shape, jnp.int32), *good[i + 1 :])
    with pytest.raises(ValueError, match=r"(has shape|Shapes differ|must be)"):
        case.fn(*(x[:0] for x in good))


@pytest.mark.parametrize("case", MANY.values(), ids=MANY)
def test_other_shapes_are_refused_and_never_broadcast(case):
    good = float32(case.inputs())
    for i, x in enumerate(good):
        for bad in (jnp.concatenate([x, x]), x[:1]):
            with pytest.raises(ValueError, match=r"differ|must be|examples"):
                case.fn(*good[:i], bad, *good[i + 1 :])
        if all(other.shape == x.shape for other in good):
            for bad in (x[..., :1], x[..., 0], x[None]):
                with pytest.raises(ValueError, match="Shapes differ"):
                    jax.jit(case.fn)(*good[:i], bad, *good[i + 1 :])


Z = jnp.linspace(-1.0, 1.0, 12, dtype=jnp.float32).reshape(4, 3)
P = jnp.full((3,), 0.3, jnp.float32)
HYPER = {  # name: (function of the hyper-parameter, its name, refused numbers, accepted ones)
    "kl_sparsity": (lambda v: losses.kl_sparsity(P, v), "rho", (0.0, 1.0, -0.1, 1.5, np.nan), (0.05, 0.2)),
    "from_logits": (lambda v: losses.kl_sparsity_from_logits(Z, v), "rho", (0, 1, np.float32(2)), (0.05, 0.2)),
    "rate": (lambda v: losses.kl_sparsity_rate(P, v), "rho", (0.0, -1.0, np.inf), (0.05, 2)),
    "sae_rho": (lambda v: losses.sae_loss(Z, Z, Z, rho=v, beta=3.0), "rho", (0.0, 1.0), (0.05, 0.2)),
    "sae_beta": (lambda v: losses.sae_loss(Z, Z, Z, rho=0.05, beta=v), "beta", (-1, -1e-3, np.nan), (0, 3)),
    "margin": (lambda v: losses.energy_discriminator_loss(Z, Z, margin=v), "margin", (0.0, -1.0), (10.0, 1)),
    "began_k": (lambda v: losses.began_balance(v, Z, Z, gamma=0.5, lambda_k=1e-3).k, "k", (-0.1, 1.1), (0.0, 0.5)),
    "began_gamma": (
        lambda v: losses.began_balance(0.5, Z + 2, Z, gamma=v, lambda_k=1e-3).k,
        "gamma",
        (-0.1, 1.1),
        (0.5, 0.7),
    ),
    "began_lambda": (
        lambda v: losses.began_balance(0.5, Z + 2, Z, gamma=0.5, lambda_k=v).k,
        "lambda_k",
        (-1e-3, np.inf),
        (1e-3, 0.1),
    ),
    "alpha": (lambda v: losses.spike_and_slab_kl(Z, Z, Z, alpha=v), "alpha", (0.0, 1.0, 3), (0.05, 0.5)),
    "elbo_beta": (lambda v: losses.elbo(Z, Z, beta=v), "beta", (-1.0, np.nan), (1.0, 0.5)),
    "lecam": (lambda v: losses.lecam(Z, Z, v, 0.1), "real_ema", (np.nan, np.inf), (-3.0, 0.5)),
}


@pytest.mark.parametrize(("fn", "name", "refused", "accepted"), HYPER.values(), ids=HYPER)
def test_hyper_parameters(fn, name, refused, accepted):
    for bad in refused:
        with pytest.raises(ValueError, match=rf"^{name} must lie in .*, got .*: "):
            fn(bad)
        with pytest.raises(ValueError, match=rf"^{name} must lie in"):
            jax.jit(lambda bad=bad: fn(bad))()
    with pytest.raises(ValueError, match="dtype int32"):
        fn(jnp.ones((), jnp.int32))
    with pytest.raises(ValueError, match=rf"{name} has shape"):
        fn(jnp.full((2,), 0.5))
    plain = np.stack([fn(v) for v in accepted])
    assert not np.allclose(plain[0], plain[1])
    swept = jax.jit(jax.vmap(fn))(jnp.asarray(accepted, jnp.float32))
    np.testing.assert_allclose(swept, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fn(jnp.asarray(accepted[0], jnp.float32)), plain[0], rtol=1e-6)


@pytest.mark.parametrize("fn", [HYPER[n][0] for n in ("kl_sparsity", "from_logits", "rate", "alpha")])
def test_hyper_parameter_per_unit(fn):
    values = (0.05, 0.2, 0.5)
    want = np.stack([np.asarray(fn(v))[..., j] for j, v in enumerate(values)], axis=-1)
    np.testing.assert_allclose(fn(jnp.asarray(values, jnp.float32)), want, rtol=1e-6)


def test_all_names_of_the_package_are_covered():
    covered = {case.fn.__name__ for case in CASES.values()}
    covered |= {name for case in CASES.values() for name in case.fn.__code__.co_names}
    # These two have tests of their own beside the penalties, and the last is a result type.
    apart = {"dragan_penalty", "logits_and_gradient_norm", "BeganBalance"}
    assert set(losses.__all__) - covered == apart
    assert all(hasattr(losses, name) for name in losses.__all__)


def run(code: str, **env: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_starts_no_backend_and_brings_nothing_but_jax():
    run(
        "import sys\n"
        "import saegan_jax.losses\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, xla_bridge._backends\n"
        "foreign = {m.split('.')[0] for m in sys.modules} & {'tensorflow', 'flax', 'orbax', 'optax', 'chex', 'torch'}\n"
        "assert not foreign, foreign\n"
        "own = {m for m in sys.modules if m.startswith('saegan_jax.')}\n"
        "assert all(m.startswith(('saegan_jax.losses', 'saegan_jax.activations', 'saegan_jax.spmd')) for m in own), own\n"
    )


def test_two_devices_equal_one_under_shard_map():
    out = run(
        """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax.sharding import PartitionSpec as S
from saegan_jax import losses

mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
z = jnp.concatenate([jnp.full((3, 2), -200.0), jax.random.normal(jax.random.key(0), (3, 2))])

def value(bias, z, axis_name=None):
    return losses.kl_sparsity_from_logits(z + bias, 0.05, axis_name=axis_name).sum()

@jax.jit
@partial(jax.shard_map, mesh=mesh, in_specs=(S(), S("data")), out_specs=(S(), S()))
def sharded(bias, z):
    return jax.value_and_grad(value)(bias, z, "data")

def codes_kl(z, axis_name=None):
    return losses.kl_sparsity(losses.mean_activation(jax.nn.sigmoid(z), axis_name=axis_name), 0.05)

bias = jnp.ones(())
want = jax.jit(jax.value_and_grad(value))(bias, z)
jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), sharded(bias, z), want)
mapped = jax.shard_map(partial(codes_kl, axis_name="data"), mesh=mesh, in_specs=S("data"), out_specs=S())
np.testing.assert_allclose(jax.jit(mapped)(z), codes_kl(z), rtol=1e-5)

critic = lambda x: jnp.sum(x**3, axis=1)
r1 = partial(losses.r1_penalty, critic)
mapped = jax.shard_map(r1, mesh=mesh, in_specs=S("data"), out_specs=S("data"))
np.testing.assert_allclose(jax.jit(mapped)(z), r1(z), rtol=1e-5)
aux = lambda e: losses.auxk_loss(e, e, jnp.eye(2), jnp.array([True, False]), k_aux=1)
mapped = jax.shard_map(aux, mesh=mesh, in_specs=S("data"), out_specs=S("data"))
np.testing.assert_allclose(jax.jit(mapped)(z)[:3], 0.5)
print("done")
""",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert out == "done\n"
