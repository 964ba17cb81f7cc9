"""Autoencoders that SAELens wrote: safetensors and cfg.json without this package's own settings in it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.data.vectors import map_safetensors, safetensors_header
from saegan_jax.errors import ConfigError, require

VARIANT_OF = {"standard": "l1", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
"""SAELens's architectures, and ours that compute the same codes."""
UNIT_WITHIN = 1e-3
"""Distance of a decoder row's norm from 1 up to which it counts as kept there."""

ImageShape = tuple[int, int, int]


def import_foreign(cfg: Mapping[str, Any], weights: Path) -> tuple[SAEConfig, dict[str, np.ndarray], ImageShape]:
    """What a cfg.json of SAELens and its tensors describe, as an autoencoder of vectors.

    Args:
      cfg: the content of cfg.json.
      weights: the safetensors file.

    Returns:
      ``(config, arrays, (1, 1, d_in))``; weights of 16 bits become float32. Settings of training are the defaults, and
      ``decoder_norm`` is 1 where all rows of ``W_dec`` have norm 1, else 0. A variant that needs the norm gets it, see
      :func:`unit_rows`.

    Raises:
      ConfigError: an architecture, an activation, a normalisation of inputs or a rescaling of codes that is not computed
        here; tensors missing, unknown, or of other shapes; a row of zeros that needs a norm.
    """
    architecture = cfg.get("architecture")
    fix = f"expected one of {', '.join(VARIANT_OF)}."
    require(architecture in VARIANT_OF, "architecture", architecture, fix)
    for key in ("normalize_activations", "reshape_activations"):
        found = cfg.get(key) or "none"
        fix = "inputs are read as they are; fold it into the weights first (SAELens: fold_activation_norm_scaling_factor)."
        require(found == "none", key, found, fix)
    for key in ("activation_fn", "activation_fn_str"):
        found = cfg.get(key) or "relu"
        fix = f"an autoencoder of the architecture {architecture} has relu here; state the one that it is of."
        require(found in ("relu", architecture), key, found, fix)
    variant = VARIANT_OF[str(architecture)]
    arrays = _tensors(weights, variant)
    d_in, d_sae = arrays["W_enc"].shape
    for name in ("d_in", "d_sae"):
        wanted = {"d_in": d_in, "d_sae": d_sae}[name]
        require(cfg.get(name, wanted) == wanted, name, cfg.get(name), f"W_enc has shape {(d_in, d_sae)}.")
    norms = np.linalg.norm(arrays["W_dec"], axis=1)
    unit = bool(np.abs(norms - 1).max() < UNIT_WITHIN)
    if cfg.get("rescale_acts_by_decoder_norm", False):
        fix = "codes are not rescaled here; fold the norms into the weights first (SAELens: fold_W_dec_norm)."
        require(unit, "rescale_acts_by_decoder_norm", True, fix)
    if not unit and VARIANTS[variant].needs_decoder_norm:
        arrays, unit = unit_rows(variant, arrays, weights), True
    settings: dict[str, Any] = {
        "variant": variant,
        "d_sae": d_sae,
        "pre_bias": "mean" if cfg.get("apply_b_dec_to_input", True) else "none",
        "decoder_norm": 1.0 if unit else 0.0,
    }
    if VARIANTS[variant].counts_k:
        k = cfg.get("k", (cfg.get("activation_fn_kwargs") or {}).get("k"))
        require(isinstance(k, int), "k", k, "a topk autoencoder needs the number of its active units.")
        settings["k"] = k
    config = SAEConfig(**settings)
    return config, arrays, (1, 1, d_in)


def unit_rows(variant: str, arrays: Mapping[str, np.ndarray], weights: Path) -> dict[str, np.ndarray]:
    """The same function with the decoder's rows at norm 1: ``W_dec_i <- W_dec_i / n_i`` and codes ``h_i <- n_i h_i``.

    Args:
      variant: one whose codes scale with their unit's weights.
      arrays: parameters by name.
      weights: their file, for the message.

    Raises:
      ConfigError: a row of zeros.
    """
    norms = np.linalg.norm(arrays["W_dec"], axis=1)
    dead = np.flatnonzero(norms == 0)
    if len(dead):
        fix = f"its W_dec is 0 for {len(dead)} units, the first of them {dead[0]}, and their rows need a norm; take them out."
        raise ConfigError("from", str(weights), fix)
    scaled = ("W_enc", "b_enc", *VARIANTS[variant].in_units_of_codes)
    return {**arrays, "W_dec": arrays["W_dec"] / norms[:, None], **{name: arrays[name] * norms for name in scaled}}


def _tensors(weights: Path, variant: str) -> dict[str, np.ndarray]:
    """Our parameters, float32."""
    theirs = VARIANTS[variant].saelens.names
    names = ["W_enc", "b_enc", "W_dec", "b_dec", *VARIANTS[variant].extra_params(SAEConfig(variant=variant))]
    try:
        found = {key: np.asarray(map_safetensors(weights, key), np.float32) for key in safetensors_header(weights)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it is no whole safetensors file of numbers that are read here ({error})."
        raise ConfigError("from", str(weights), reason) from None
    arrays = {}
    for name in names:
        key = theirs.get(name, name)
        require(key in found, "from", str(weights), f"it has no tensor {key}, only {', '.join(list(found)[:8])}.")
        arrays[name] = found.pop(key)
    # Older files have factors of finetuning that was never done.
    left = [key for key, array in found.items() if key != "scaling_factor" or (array != 1).any()]
    fix = f"its tensors {', '.join(left[:8])} are not computed with here; fold them into the others first."
    require(not left, "from", str(weights), fix)
    d_in, d_sae = (*arrays["W_enc"].shape, 0, 0)[:2]
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    for name, array in arrays.items():
        wanted = shapes.get(name, (d_sae,))
        require(array.shape == wanted, "from", str(weights), f"its {name} has shape {array.shape}, expected {wanted}.")
        require(bool(np.isfinite(array).all()), "from", str(weights), f"its {name} holds values that are not finite.")
    return arrays
