"""Weights of an autoencoder of normalised vectors as weights of the vectors themselves, and back."""

from typing import Any

import jax.numpy as jnp

from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.data.normalisation import Normalisation
from saegan_jax.errors import require


def check_foldable(config: SAEConfig, kind: str) -> None:
    """Refuse settings under which no weights do on vectors what these do on normalised ones.

    Raises:
      ConfigError: a tied decoder or a sigmoid at the end with any normalisation; "centre" without a pre-bias.
    """
    if kind == "none":
        return
    fix = f"a tied decoder cannot undo the scale of normalise={kind!r}; turn it off, or use --normalise none."
    require(not config.tied, "sae.tied", config.tied, fix)
    fix = f"a sigmoid cannot undo the scale of normalise={kind!r}; turn it off, or use --normalise none."
    require(not config.sigmoid_output, "sae.sigmoid_output", config.sigmoid_output, fix)
    fix = "normalise='centre' subtracts the mean, which goes into b_dec; use mean, or --normalise scale."
    require(kind != "centre" or config.pre_bias != "none", "sae.pre_bias", config.pre_bias, fix)


def fold(params: Any, normalisation: Normalisation) -> Any:
    """Parameters that give of ``x`` the codes that ``params`` give of ``z = scale (x - mean)``, and its reconstruction.

    ``W_enc <- scale W_enc``, ``W_dec <- W_dec / scale``, ``b_dec <- mean + b_dec / scale``; all others stay.

    Args:
      params: ``{"params": {name: array}}`` of settings that pass :func:`check_foldable`.
      normalisation: of the vectors.
    """
    if normalisation.kind == "none":
        return params
    weights, s = params["params"], jnp.float32(normalisation.scale)
    b_dec = jnp.asarray(normalisation.mean) + weights["b_dec"] / s
    changed = {"W_enc": weights["W_enc"] * s, "W_dec": weights["W_dec"] / s, "b_dec": b_dec}
    return {"params": {**weights, **changed}}


def unfold(params: Any, normalisation: Normalisation) -> Any:
    """The inverse of :func:`fold`, up to rounding."""
    if normalisation.kind == "none":
        return params
    weights, s = params["params"], jnp.float32(normalisation.scale)
    b_dec = (weights["b_dec"] - jnp.asarray(normalisation.mean)) * s
    changed = {"W_enc": weights["W_enc"] / s, "W_dec": weights["W_dec"] * s, "b_dec": b_dec}
    return {"params": {**weights, **changed}}
