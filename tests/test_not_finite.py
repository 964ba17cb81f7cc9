"""NaN and infinity are never turned into a good value: of public functions of arrays, the result is not finite either."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saegan_jax import activations, losses, metrics
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig, SAEHyper, autoencoder
from saegan_jax.algorithms.vae.posterior import Posterior, most_probable
from saegan_jax.metrics.cycle_robustness import cycle_robustness, paired_error, quantise

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.1, 0.9, shape).astype(np.float32)


def critic(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)))


# Arguments that are arrays of floating numbers, by name; then the others.
X, Y, LOGITS = positive(6, 4), positive(6, 4), positive(6)
Case = tuple[dict[str, Any], dict[str, Any]]
PENALTY = {"critic": critic}
CODES = {"threshold": 0.2}
CASES: dict[str, Case] = {
    **{
        name: ({p: LOGITS for p in inspect.signature(getattr(losses, name)).parameters if p.endswith("_logits")}, {})
        for name in losses.__all__
        if name.endswith(("discriminator_loss", "generator_loss")) and not name.startswith("energy")
    },
    "energy_discriminator_loss": ({"real_energy": LOGITS, "fake_energy": LOGITS}, {"margin": 1.0}),
    "pulling_away": ({"pre_activations": X}, {}),
    "began_balance": (
        {"k": np.float32(0.1), "real_energy": LOGITS, "fake_energy": LOGITS}, {"gamma": 0.5, "lambda_k": 0.001},
    ),
    "cycle_consistency": ({"x": X, "x_cycled": Y}, {}),
    "identity_mapping": ({"y": X, "y_mapped": Y}, {}),
    "code_cosine_distance": ({"codes": X, "translated_codes": Y}, {}),
    "code_squared_error": ({"codes": X, "translated_codes": Y}, {}),
    "activity_cross_entropy": ({"active": X, "logits": Y}, {}),
    "semantic_consistency": ({"source_logits": X, "translated_logits": Y}, {}),
    "logits_and_gradient_norm": ({"x": X}, PENALTY),
    "r1_penalty": ({"real": X}, PENALTY),
    "r2_penalty": ({"fake": X}, PENALTY),
    "gradient_penalty": ({"real": X, "fake": Y}, PENALTY | {"key": KEY}),
    "dragan_penalty": ({"real": X}, PENALTY | {"key": KEY}),
    "lecam": (
        {"real_logits": LOGITS, "fake_logits": LOGITS, "real_ema": np.float32(0), "fake_ema": np.float32(0)}, {},
    ),
    "auxk_loss": (
        {"residual": X, "pre_activations": positive(6, 3), "W_dec": positive(3, 4)}, {"dead": np.ones(3, bool), "k_aux": 2},
    ),
    "sae_loss": ({"x": X, "x_hat": Y, "code_logits": positive(6, 3)}, {"rho": 0.1, "beta": 1.0}),
    "hoyer_sparsity": ({"codes": X}, {}),
    "kl_sparsity": ({"rho_hat": positive(4)}, {"rho": 0.1}),
    "kl_sparsity_from_logits": ({"logits": X}, {"rho": 0.1}),
    "kl_sparsity_rate": ({"rho_hat": positive(4)}, {"rho": 0.1}),
    "l1_sparsity": ({"codes": X}, {}),
    "mean_activation": ({"codes": X}, {}),
    "elbo": ({"log_likelihood": X, "kl": Y}, {}),
    "gaussian_kl": ({"mean": X, "log_variance": Y}, {}),
    "spike_and_slab_kl": ({"mean": X, "log_variance": Y, "gate_logits": X}, {"alpha": 0.1}),
    "co_activation_error": ({"real_codes": X, "fake_codes": Y}, CODES),
    "l0_error": ({"real_codes": X, "fake_codes": Y}, CODES),
    "two_sample_accuracy": ({"real_codes": X, "fake_codes": Y}, {"key": KEY}),
    "coherence": ({"W_dec": X}, {}),
    "match_features": ({"W_dec": X, "atoms": Y}, {}),
    "nearest_units": ({"W_dec": X}, {"count": 2}),
    "unit_statistics": ({"activity": X}, {"threshold": 0.1, "count": 2}),
    "class_purity": ({"activity": X}, {"labels": np.arange(len(X)) % 2, "num_classes": 2, "threshold": 0.1}),
    "dci": ({"importance": X}, {}),
    "mutual_information": ({"codes": X}, {"factors": np.arange(len(X)).reshape(-1, 1) % 2}),
    "mutual_information_gap": ({"codes": X}, {"factors": np.arange(len(X)).reshape(-1, 1) % 2}),
    "dictionary_match": ({"W_a": X, "W_b": Y}, {}),
    "class_balance_kl": ({"reference": np.full(2, 0.5)}, {"predicted_labels": np.array([0, 1]), "num_classes": 2}),
    "frechet_distance": ({"real_features": X, "fake_features": Y}, {}),
    "kernel_distance": ({"real_features": X, "fake_features": Y}, {}),
    "mixture_quality": ({"points": X, "centers": Y}, {"sigma": 0.1}),
    "reverse_kl_floor": ({"probabilities": np.full(2, 0.5)}, {"n": 10, "num_modes": 2}),
    "memorisation": ({"train_features": X, "held_out_features": Y, "fake_features": X + 0.1}, {}),
    "neighbour_metrics": ({"real_features": X, "fake_features": Y}, {"k": 2}),
    "sae_metrics": ({"x": X, "x_hat": Y, "codes": X}, CODES),
    "importance_bound": ({"log_weights": X}, {}),
    "topk": ({"pre_activations": X}, {"k": 2}),
    "heaviside": ({"x": X, "threshold": Y}, {"bandwidth": 0.1}),
    "jumprelu": ({"x": X, "threshold": Y}, {"bandwidth": 0.1}),
    "paired_error": ({"truth": X, "images": Y}, {}),
    "quantise": ({"images": X}, {"bits": 4}),
    "cycle_robustness": ({"images": X}, {"there": lambda x: x, "back": lambda x: x, "key": KEY}),
}  # fmt: skip
EXCEPTIONS = {
    "topk_mask": "a mask is of booleans; NaN counts as larger than all numbers, and topk keeps it",
    "active_units": "a count of units whose variance exceeds a threshold, int32; NaN exceeds none",
    "mode_count": "takes labels, which are integers",
    "reverse_kl": "takes labels, which are integers",
    "init_sae_stats": "takes sizes",
    "update_sae_stats": "a part of sae_metrics",
    "merge_sae_stats": "a part of sae_metrics",
    "summarise": "a part of sae_metrics",
    "activity": "counts of codes above a threshold, int32; NaN is above none",
    "detection": "takes counts, which are integers",
}
SATURATES = {
    ("began_balance", "k"): "the next k is clipped to [0, 1]",
    ("kl_sparsity_from_logits", "logits"): "a sigmoid of an infinite logit is 0 or 1",
    ("sae_loss", "code_logits"): "a sigmoid of an infinite logit is 0 or 1",
    ("heaviside", "x"): "an infinite number is above or below any threshold",
    ("heaviside", "threshold"): "no number is above an infinite threshold",
    ("jumprelu", "threshold"): "no number is above an infinite threshold",
    ("semantic_consistency", "source_logits"): "the class of an infinite logit is the most probable one",
    ("quantise", "images"): "values outside [0, 1] are clipped, which is documented",
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(losses, name) for name in losses.__all__},
    **{name: getattr(metrics, name) for name in metrics.__all__},
    **{name: getattr(activations, name) for name in ("topk", "topk_mask", "heaviside", "jumprelu")},
    "paired_error": paired_error,
    "quantise": quantise,
    "cycle_robustness": cycle_robustness,
}


def finite(result: Any) -> bool:
    return all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(result))


def spoiled(value: Any, bad: float) -> np.ndarray:
    array = np.array(value, copy=True)
    array.flat[0] = bad
    return array


def survives(
    function: Callable[..., Any], arrays: dict[str, Any], others: dict[str, Any], name: str, bad: float
) -> bool:
    """Whether the result is finite though ``bad`` is an element of an argument."""
    try:
        given = {key: spoiled(value, bad) if key == name else value for key, value in arrays.items()}
        return finite(function(**{key: jnp.asarray(value) for key, value in given.items()}, **others))
    except ValueError:
        return False


def test_every_public_function_is_here():
    public = {name for name, value in FUNCTIONS.items() if inspect.isfunction(value) or not inspect.isclass(value)}
    assert public == set(CASES) | set(EXCEPTIONS)
    assert {name for name, _ in SATURATES} <= set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_no_array_argument_hides_what_is_not_finite(name):
    function, (arrays, others) = FUNCTIONS[name], CASES[name]
    if name != "two_sample_accuracy":  # trains networks
        assert finite(function(**{key: jnp.asarray(value) for key, value in arrays.items()}, **others))
    for argument in arrays:
        assert not survives(function, arrays, others, argument, np.nan), argument
        if (name, argument) not in SATURATES:  # losses saturate on one side
            infinite = [survives(function, arrays, others, argument, bad) for bad in (np.inf, -np.inf)]
            assert not all(infinite), argument


def test_penalties_of_a_critic_without_a_finite_gradient_are_not_finite():
    x = jnp.zeros((3, 4))
    broken = lambda images: jnp.sqrt(images - 1).sum(axis=1)  # noqa: E731
    for value in (losses.gradient_penalty(broken, x, x, KEY), losses.dragan_penalty(broken, x, KEY)):
        assert np.isnan(value).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_codes_and_loss_of_a_broken_image_are_not_finite(name):
    config = SAEConfig(variant=name, d_sae=8, **{"k": 2} | dict(VARIANTS[name].defaults) | {"auxk": 0.0, "k": 2})
    functions = autoencoder(config, image_shape=(2, 2, 1))
    weights = {"W_enc": positive(4, 8), "b_enc": positive(8), "W_dec": positive(8, 4), "b_dec": positive(4)}
    extra = {key: np.full(8, value, np.float32) for key, value in VARIANTS[name].extra_params(config).items()}
    params = {"params": jax.tree.map(jnp.asarray, weights | extra)}
    images = jnp.asarray(spoiled(positive(3, 2, 2, 1), np.nan))
    codes = functions.encode(params, images)
    assert not finite(codes[0])
    assert finite(codes[1:])
    hyper = SAEHyper(**{f: jnp.asarray(getattr(config, f)) for f in SAEHyper.__dataclass_fields__})
    assert not np.isfinite(functions.loss(params, images, hyper=hyper, mean_activation=jnp.full(8, 0.1))[0])


def test_the_code_of_a_broken_posterior_is_not_finite():
    nan, one = jnp.full((1, 2), jnp.nan), jnp.ones((1, 2))
    assert not finite(most_probable(Posterior(one, one, nan)))
