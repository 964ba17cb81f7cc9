"""Resampling: dead units start again, pointed at examples that the others explain badly."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.sae.autoencoder import SAETerms
from saegan_jax.algorithms.sae.config import SAEConfig
from saegan_jax.algorithms.sae.state import SAEState, with_weights
from saegan_jax.algorithms.sae.variants import VARIANTS
from saegan_jax.spmd import gathered

Arrays = dict[str, jax.Array]


def resample(config: SAEConfig, axis_name: str | None, state: SAEState, terms: SAETerms) -> SAEState:
    """Point each dead unit at an example drawn with probability proportional to the square of its loss.

    The unit detects and draws the example's direction, its bias and extra parameters are as at the start, and Adam forgets it.

    Args:
      config: settings.
      axis_name: a mapped axis over which the batch is spread, or None.
      state: after the step's update.
      terms: of the step's batch.

    Returns:
      The state with the dead units replaced, their statistics as at the start.

    Source: Bricken et al., Towards monosemanticity, 2023, appendix "neuron resampling".
    """
    dead = state.steps_since_active >= config.dead_after
    direction = _directions(config, axis_name, state, terms)
    weights = state.params["params"]
    fresh = _fresh(config, state, dead, direction)
    new = {n: _where_dead(dead, n, fresh[n], old) for n, old in weights.items() if n in fresh}
    adam, *rest = state.opt_state
    adam = adam._replace(mu=_forget(adam.mu, dead, fresh), nu=_forget(adam.nu, dead, fresh))
    return replace(
        state,
        params=with_weights(state.params, **new),
        opt_state=(adam, *rest),
        mean_activation=jnp.where(dead, state.hyper.rho, state.mean_activation),
        density=jnp.where(dead, state.hyper.rho, state.density),
        steps_since_active=jnp.where(dead, 0, state.steps_since_active),
    )


def _directions(config: SAEConfig, axis_name: str | None, state: SAEState, terms: SAETerms) -> jax.Array:
    """A unit vector for every unit, ``(d_sae, d_in)``: what the encoder sees of the example drawn for it."""
    b_dec, d_sae = state.params["params"]["b_dec"], config.d_sae
    d_in = b_dec.shape[0]
    inputs, residual = terms.inputs.reshape(-1, d_in), terms.residual.reshape(-1, d_in)
    inputs, residual = gathered(inputs, axis_name), gathered(residual, axis_name)
    seen = inputs - b_dec.reshape(1, -1) if config.pre_bias != "none" else inputs
    sound = jnp.linalg.norm(seen, axis=-1) > 1e-6  # an empty example has no direction to start from
    loss = jnp.maximum(jnp.sum(residual**2, axis=-1), jnp.finfo(residual.dtype).tiny)
    draw_key, direction_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    chosen = jax.random.categorical(draw_key, jnp.where(sound, 2 * jnp.log(loss), -jnp.inf), shape=(d_sae,))
    anywhere = jax.random.normal(direction_key, (d_sae, d_in), jnp.float32)
    direction = jnp.where(sound[chosen].reshape(-1, 1), seen[chosen], anywhere)
    return direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)


def _fresh(config: SAEConfig, state: SAEState, dead: jax.Array, direction: jax.Array) -> Arrays:
    """Parameters of every unit as if it were resampled."""
    variant, weights = VARIANTS[config.variant], state.params["params"]
    living = ~dead | jnp.all(dead)  # without a living unit, the norm of all
    alive = jnp.mean(jnp.linalg.norm(weights["W_enc"], axis=0), where=living)
    b_enc = jnp.zeros_like(weights["b_enc"])
    if variant.encoder_bias is not None:
        b_enc = jnp.broadcast_to(variant.encoder_bias(state.hyper.rho).reshape(1), (config.d_sae,))
    reset = variant.extra_params if variant.resample_reset is None else variant.resample_reset
    return {
        "W_enc": 0.2 * alive * direction.T,
        "W_dec": (config.decoder_norm or 1.0) * direction,
        "b_enc": b_enc,
        **{name: jnp.full((config.d_sae,), value, jnp.float32) for name, value in reset(config).items()},
    }


def _where_dead(dead: jax.Array, name: str, new: jax.Array, old: jax.Array) -> jax.Array:
    # Units are the rows of W_dec, and the last axis of all others.
    mask = dead.reshape(-1, 1) if name == "W_dec" else dead.reshape((1,) * (old.ndim - 1) + (-1,))
    return jnp.where(mask, new, old)


def _forget(moments: Any, dead: jax.Array, fresh: Arrays) -> Any:
    """Adam's moments without what they hold of the dead units."""
    kept = {n: _where_dead(dead, n, jnp.zeros_like(m), m) for n, m in moments["params"].items() if n in fresh}
    return with_weights(moments, **kept)
