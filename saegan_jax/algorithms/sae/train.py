"""Training a sparse autoencoder: reconstruction plus a sparsity term, with Adam along a cosine."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from saegan_jax import losses
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.ema import ema_update
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.algorithms.sae.autoencoder import (
    Autoencoder,
    SAETerms,
    autoencoder,
    module,
)
from saegan_jax.algorithms.sae.config import SAEConfig, SAEHyper, hyper
from saegan_jax.algorithms.sae.resample import resample
from saegan_jax.algorithms.sae.state import SAEInfo, SAEState, Start, with_weights
from saegan_jax.algorithms.sae.variants import VARIANTS, Variant
from saegan_jax.algorithms.sae.variants.base import STATISTICS_DECAY
from saegan_jax.errors import require
from saegan_jax.spmd import mean_over_devices, step_on_any_mesh, varying


class Training(NamedTuple):
    """What ``init``, ``step`` and ``sample`` read.

    Attributes:
      config: settings.
      variant: the one that they name.
      functions: the autoencoder.
      optimiser: Adam along a cosine, for a learning rate of 1.
      member: settings that ``init`` puts in the state in place of the configuration's, or None.
      axis_name: a mapped axis over which the batch is spread, or None.
    """

    config: SAEConfig
    variant: Variant
    functions: Autoencoder
    optimiser: optax.GradientTransformation
    member: SAEHyper | None
    axis_name: str | None


def sae(
    config: SAEConfig,
    *,
    image_shape: tuple[int, int, int],
    member: SAEHyper | None = None,
    axis_name: str | None = None,
) -> Algorithm:
    """A sparse autoencoder on images in [0, 1], trained with Adam along a cosine; its loss: :func:`autoencoder`.

    Args:
      config: see :class:`SAEConfig`.
      image_shape: ``(height, width, channels)``.
      member: the swept settings that ``init`` puts in the state in place of the configuration's, for instance traced
        under ``vmap``; ``step`` and ``sample`` read the state's.
      axis_name: a mapped axis over which the batch is spread: see :func:`autoencoder`.

    Returns:
      An :class:`Algorithm`. Its ``init(key, pretrained=None)`` takes a :class:`Start`. Its ``sample`` decodes independent
      units, each active with its running density at its running mean magnitude: a picture of what the dictionary draws
      without any joint model of the codes.

    Raises:
      ConfigError: patches that do not fit the image, or a sparse decoder, whose k is fixed, with a ``member``.
      ValueError: in ``init``, a :class:`Start` of other shapes; in ``step``, integer images.
    """
    fix = "the members of a sweep may have other k; turn it off."
    require(member is None or not config.sparse_decoder, "sparse_decoder", True, fix)
    functions = autoencoder(config, image_shape=image_shape, axis_name=axis_name)
    # The learning rate is in the state, so that the members of a sweep may differ in it.
    cosine = optax.cosine_decay_schedule(1.0, config.steps, alpha=0.1)
    optimiser = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(cosine))
    training = Training(config, VARIANTS[config.variant], functions, optimiser, member, axis_name)
    step = step_on_any_mesh(partial(_step, training))
    return Algorithm(partial(_init, training), step, partial(_sample, training))


def project_params(config: SAEConfig, params: Any) -> Any:
    """``params`` with the decoder's rows at the norm where ``config`` keeps them, and within the variant's constraints."""
    if config.decoder_norm:
        W_dec = params["params"]["W_dec"]
        W_dec = config.decoder_norm * W_dec / jnp.linalg.norm(W_dec, axis=-1, keepdims=True)
        params = with_weights(params, W_dec=W_dec)
    project = VARIANTS[config.variant].project
    return params if project is None else with_weights(params, **project(params["params"]))


def remove_parallel_gradient(config: SAEConfig, gradients: Any, params: Any) -> Any:
    """``gradients`` without the part along the decoder's rows, where ``config`` keeps their norm.

    :func:`project_params` would undo that part, but Adam's second moment would remember it.
    """
    if not config.decoder_norm:
        return gradients
    W_dec, g = params["params"]["W_dec"], gradients["params"]["W_dec"]
    unit = W_dec / config.decoder_norm
    return with_weights(gradients, W_dec=g - jnp.sum(g * unit, axis=-1, keepdims=True) * unit)


def _init(training: Training, key: jax.Array, pretrained: Start | None = None) -> SAEState:
    config, member = training.config, training.member
    chosen = hyper(config) if member is None else member
    params_key, run_key = jax.random.split(key)
    params = _initial_params(training, params_key, Start() if pretrained is None else pretrained)
    ones = jnp.ones((config.d_sae,), jnp.float32)
    # Separate buffers: a donated state may not hold one array twice. With a dtype: a weakly typed number would become a
    # strong one in the first step, and compile every program twice.
    return SAEState(
        step=jnp.zeros((), jnp.int32),
        key=run_key,
        params=params,
        opt_state=training.optimiser.init(params),
        hyper=chosen,
        mean_activation=chosen.rho * ones,
        density=chosen.rho * ones,
        steps_since_active=jnp.zeros((config.d_sae,), jnp.int32),
    )


def _initial_params(training: Training, key: jax.Array, start: Start) -> Any:
    config, member, bias = training.config, training.member, training.variant.encoder_bias
    d_in = training.functions.d_in
    _check_center(start.center, d_in)
    random: Callable[[jax.Array], Any] = partial(_random_params, config, d_in)
    if start.params is not None:
        _check_weights(start.params, jax.eval_shape(random, key))
        return jax.tree.map(jnp.copy, start.params)
    params = random(key)
    if bias is not None and member is not None:
        params = with_weights(params, b_enc=jnp.broadcast_to(bias(member.rho).reshape(1), (config.d_sae,)))
    if start.center is not None and config.pre_bias != "none":
        params = with_weights(params, b_dec=start.center.astype(jnp.float32) + 0.0)
    return project_params(config, params)


def _random_params(config: SAEConfig, d_in: int, key: jax.Array) -> Any:
    return module(config, d_in).init(key, jnp.zeros((1, d_in), jnp.float32))


def _check_center(center: jax.Array | None, d_in: int) -> None:
    if center is not None and center.shape != (d_in,):
        raise ValueError(f"center has shape {center.shape}, but must be ({d_in},), one value per input of the network.")


def _check_weights(params: Any, shapes: Any) -> None:
    found, wanted = ({n: w.shape for n, w in tree["params"].items()} for tree in (params, shapes))
    unlike = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
    if unlike:
        what = "; ".join(f"{n} {found.get(n, 'missing')}, expected {wanted.get(n, 'none')}" for n in unlike)
        raise ValueError(f"params to start from are of another autoencoder: {what}.")


def _step(training: Training, state: SAEState, batch: Batch) -> tuple[SAEState, SAEInfo]:
    config, axis_name = training.config, training.axis_name
    dead = state.steps_since_active >= config.dead_after
    objective = partial(_objective, training, state, batch.image, dead)
    (loss, terms), gradients = jax.value_and_grad(objective, has_aux=True)(varying(state.params, axis_name))
    params, opt_state = _update(training, state, mean_over_devices(gradients, axis_name), terms)
    examples = tuple(range(terms.codes.ndim - 1))
    active = terms.codes > config.active_above
    density = mean_over_devices(active.mean(axis=examples, dtype=jnp.float32), axis_name)
    mean = losses.mean_activation(terms.codes, axis=examples, axis_name=axis_name)
    since = jnp.where(density > 0, 0, state.steps_since_active + 1)
    new = replace(
        state,
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        mean_activation=ema_update(state.mean_activation, mean, decay=STATISTICS_DECAY),
        density=ema_update(state.density, density, decay=STATISTICS_DECAY),
        steps_since_active=since,
    )
    if config.resample_every:
        due = (new.step % config.resample_every == 0) & jnp.any(since >= config.dead_after)
        new = lax.cond(due, lambda: resample(config, axis_name, new, terms), lambda: new)
    info = SAEInfo(
        loss=mean_over_devices(loss, axis_name),
        reconstruction=mean_over_devices(terms.reconstruction, axis_name),
        sparsity=mean_over_devices(terms.sparsity, axis_name),
        auxiliary=mean_over_devices(terms.auxiliary, axis_name),
        l0=density.sum() * math.prod(training.functions.positions),
        dead_fraction=dead.mean(dtype=jnp.float32),
    )
    return new, info


def _objective(
    training: Training, state: SAEState, images: jax.Array, dead: jax.Array, params: Any
) -> tuple[jax.Array, SAETerms]:
    config, settings = training.config, state.hyper
    if config.sparsity_warmup:
        ramp = jnp.minimum((state.step + 1).astype(jnp.float32) / config.sparsity_warmup, 1.0)
        settings = replace(settings, beta=ramp * settings.beta)
    running = state.mean_activation if config.rho_hat == "running" else None
    return training.functions.loss(params, images, hyper=settings, mean_activation=running, dead=dead)


def _update(training: Training, state: SAEState, gradients: Any, terms: SAETerms) -> tuple[Any, Any]:
    """New parameters, within their constraints and with those that the variant sets from the codes, and optimiser state."""
    config, statistics = training.config, training.variant.statistics
    gradients = remove_parallel_gradient(config, gradients, state.params)
    rate = state.hyper.learning_rate
    params, opt_state = apply_gradients(training.optimiser, gradients, state.opt_state, state.params, rate=rate)
    params = project_params(config, params)
    if statistics is not None:
        kept = statistics(params["params"], terms.codes, step=state.step, axis_name=training.axis_name)
        params = with_weights(params, **kept)
    return params, opt_state


def _sample(training: Training, state: SAEState, key: jax.Array, n: int) -> jax.Array:
    functions = training.functions
    magnitude = state.mean_activation / jnp.maximum(state.density, 1e-6)
    leading = (n, *functions.positions)
    row = (1,) * len(leading) + (-1,)
    active = jax.random.bernoulli(key, state.density.reshape(row), (*leading, training.config.d_sae))
    images = functions.decode(state.params, jnp.where(active, magnitude.reshape(row), 0.0))
    return jnp.clip(images, 0.0, 1.0)
