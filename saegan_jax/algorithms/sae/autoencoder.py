"""The sparse autoencoder as pure functions of its parameters: encode, decode, and the objective that training minimises."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from saegan_jax import losses
from saegan_jax.algorithms.sae.config import SAEConfig, SAEHyper
from saegan_jax.algorithms.sae.patches import Patches, patches
from saegan_jax.algorithms.sae.variants import VARIANTS, Variant
from saegan_jax.images import check_unit
from saegan_jax.networks.autoencoders import SparseAutoencoder
from saegan_jax.spmd import mean_over_devices

ImageShape = tuple[int, int, int]


class SAETerms(NamedTuple):
    """What :attr:`Autoencoder.loss` gives beside the loss: three scalars of :class:`SAEInfo`, and arrays.

    Attributes:
      reconstruction, sparsity, auxiliary: see :class:`saegan_jax.algorithms.sae.SAEInfo`.
      codes: ``(batch, d_sae)``, or with patches ``(batch, rows, columns, d_sae)``, as training makes them.
      pre_activations: what they are made from, of the same shape.
      inputs: what was encoded, ``(batch, [rows, columns,] d_in)``.
      residual: ``inputs`` minus their reconstruction.
    """

    reconstruction: jax.Array
    sparsity: jax.Array
    auxiliary: jax.Array
    codes: jax.Array
    pre_activations: jax.Array
    inputs: jax.Array
    residual: jax.Array


class Autoencoder(NamedTuple):
    """Every variant, dense or convolutional, as pure functions of its parameters.

    Attributes:
      encode: ``encode(params, images, *, k=None) -> codes``: ``(batch, height, width, channels)`` in [0, 1] to
        ``(batch, d_sae)``, or with patches to ``(batch, rows, columns, d_sae)``. As after training: each image for itself.
        ``k`` overrides the setting, for members of a sweep.
      pre_activations: ``pre_activations(params, images)``, what the codes are made from, of the codes' shape.
      activate: ``activate(params, pre_activations, *, k=None) -> codes``, the second half of ``encode``.
      decode: ``decode(params, codes) -> images``.
      loss: ``loss(params, images, *, hyper, mean_activation=None, dead=None) -> (scalar, SAETerms)``, the training
        objective: ``hyper`` a :class:`SAEHyper`; ``mean_activation`` the running one ``(d_sae,)``, needed with
        ``rho_hat="running"``; ``dead`` ``(d_sae,)`` bool, needed for AuxK.
      inputs: ``inputs(images)``, what the network encodes: flattened images ``(batch, d_in)``, or their patches
        ``(batch, rows, columns, d_in)``.
      d_in: inputs of the network: pixels of the image or patch, times channels.
      positions: shape between batch and units: ``()``, or with patches ``(rows, columns)``.
    """

    encode: Callable[..., jax.Array]
    pre_activations: Callable[..., jax.Array]
    activate: Callable[..., jax.Array]
    decode: Callable[..., jax.Array]
    loss: Callable[..., tuple[jax.Array, SAETerms]]
    inputs: Callable[[jax.Array], jax.Array]
    d_in: int
    positions: tuple[int, ...]


class Parts(NamedTuple):
    """What the functions of an autoencoder read: settings, variant, network, geometry, and the mapped axis of the batch."""

    config: SAEConfig
    variant: Variant
    net: Any
    patches: Patches
    image_shape: ImageShape
    axis_name: str | None


def module(config: SAEConfig, d_in: int) -> Any:
    """The network that ``config`` describes, for ``d_in`` inputs: a :class:`SparseAutoencoder`."""
    variant = VARIANTS[config.variant]
    return SparseAutoencoder(
        d_in=d_in,
        d_sae=config.d_sae,
        tied=config.tied,
        centred=config.pre_bias != "none",
        sigmoid_output=config.sigmoid_output,
        encoder_init=variant.encoder_init,
        decoder_init=variant.decoder_init,
        initial_bias=0.0 if variant.encoder_bias is None else variant.encoder_bias(float(config.rho)),
        extra_params=tuple(variant.extra_params(config).items()),
    )


def autoencoder(config: SAEConfig, *, image_shape: ImageShape, axis_name: str | None = None) -> Autoencoder:
    """Encode, decode and loss of the variant that ``config`` names.

    ``loss = mean_n 1/2 ||x_hat_n - x_n||^2 + beta * sparsity + auxiliary + weight_decay / 2 (||W_enc||^2 + ||W_dec||^2)``

    Codes, sparsity and the variant's auxiliary term: see its file in :mod:`saegan_jax.algorithms.sae.variants`. If ``auxk`` > 0
    AuxK is added to the auxiliary term, with the weight that its authors give it beside an error divided by the inputs'
    variance.

    Args:
      config: see :class:`SAEConfig`.
      image_shape: ``(height, width, channels)``.
      axis_name: a mapped axis (vmap or shard_map) whose members hold equal shares of one batch; means and competition of
        units are then over all of them. Take gradients in :func:`saegan_jax.spmd.varying` parameters, and average them with
        ``lax.pmean``.

    Raises:
      ConfigError: patches that do not fit the image.
      ValueError: while tracing, integer images.

    Source: Gao et al., Scaling and evaluating sparse autoencoders, 2024 (AuxK); of each variant: its file.
    """
    geometry = patches(image_shape, patch_size=config.patch_size, stride=config.stride)
    net = module(config, geometry.d_in)
    parts = Parts(config, VARIANTS[config.variant], net, geometry, image_shape, axis_name)
    return Autoencoder(
        encode=partial(_encode, parts),
        pre_activations=partial(_pre_activations, parts),
        activate=partial(_activate, parts),
        decode=partial(_decode, parts),
        loss=partial(_loss, parts),
        inputs=geometry.cut,
        d_in=geometry.d_in,
        positions=geometry.positions,
    )


def _pre_activations(parts: Parts, params: Any, images: jax.Array) -> jax.Array:
    return parts.net.apply(params, parts.patches.cut(check_unit(images)), method="pre_activations")


def _activate(parts: Parts, params: Any, pre_activations: jax.Array, *, k: ArrayLike | None = None) -> jax.Array:
    k = parts.config.k if k is None else k
    return parts.variant.activate(parts.config, params["params"], pre_activations, k=k)


def _encode(parts: Parts, params: Any, images: jax.Array, *, k: ArrayLike | None = None) -> jax.Array:
    return _activate(parts, params, _pre_activations(parts, params, images), k=k)


def _decode(parts: Parts, params: Any, codes: jax.Array) -> jax.Array:
    return parts.patches.join(parts.net.apply(params, codes, method="decode"))


def _loss(
    parts: Parts,
    params: Any,
    images: jax.Array,
    *,
    hyper: SAEHyper,
    mean_activation: jax.Array | None = None,
    dead: jax.Array | None = None,
) -> tuple[jax.Array, SAETerms]:
    config, weights = parts.config, params["params"]
    inputs = parts.patches.cut(check_unit(images))
    a = parts.net.apply(params, inputs, method="pre_activations")
    codes = _training_codes(parts, weights, a, hyper)
    reconstruction, residual = _reconstruction(parts, params, codes, images, inputs)
    sparsity, auxiliary = jnp.zeros((), a.dtype), jnp.zeros((), a.dtype)
    if parts.variant.sparsity is not None:
        sparsity = parts.variant.sparsity(
            config, weights, a, codes, rho=hyper.rho, running=mean_activation, axis_name=parts.axis_name
        )
    if parts.variant.auxiliary is not None:
        auxiliary = parts.variant.auxiliary(config, weights, a, error_of=partial(_error_of, parts, images))
    if config.auxk:
        if dead is None:
            raise ValueError("auxk > 0 needs dead, which units are dead: (d_sae,) bool.")
        auxiliary = auxiliary + _auxk(parts, weights, inputs, residual, a, dead)
    value = reconstruction + hyper.beta * sparsity + auxiliary
    if config.weight_decay:
        decayed = [w.reshape(-1) for name, w in weights.items() if name.startswith("W_")]
        value += 0.5 * config.weight_decay * sum(jnp.vdot(w, w) for w in decayed)
    return value, SAETerms(reconstruction, sparsity, auxiliary, codes, a, inputs, residual)


def _training_codes(parts: Parts, weights: Any, a: jax.Array, hyper: SAEHyper) -> jax.Array:
    """Codes as training makes them: where the variant's units compete over the batch, they do so here."""
    variant = parts.variant
    if variant.activate_batch is None:
        return variant.activate(parts.config, weights, a, k=hyper.k)
    return variant.activate_batch(parts.config, weights, a, k=hyper.k, rho=hyper.rho, axis_name=parts.axis_name)


def _squared_error(target: jax.Array, x_hat: jax.Array) -> jax.Array:
    """1/2 squared error summed over pixels, mean over the first axis: scalar."""
    residual = (x_hat - target).reshape(-1)
    return 0.5 * jnp.vdot(residual, residual) / target.shape[0]


def _error_of(parts: Parts, images: jax.Array, weights: Any, codes: jax.Array) -> jax.Array:
    return _squared_error(images, _decode(parts, {"params": weights}, codes))


def _reconstruction(
    parts: Parts, params: Any, codes: jax.Array, images: jax.Array, inputs: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The error, mean over nested dictionaries, and the residual ``(batch, [rows, columns,] d_in)`` of the whole one."""
    config, (cut, join, _, positions) = parts.config, parts.patches
    if config.sparse_decoder:
        outputs = [parts.net.apply(params, codes, k=config.k, method="decode_sparse")]
    else:
        outputs = parts.net.apply(params, codes, config.nested, method="decode_levels")
    # Whole images are compared as vectors: a last axis of one or three channels makes slow loops.
    target, x_hats = (images, [join(x) for x in outputs]) if positions else (inputs, outputs)
    error = jnp.stack([_squared_error(target, x_hat) for x_hat in x_hats]).mean()
    return error, inputs - (cut(x_hats[-1]) if positions else outputs[-1])


def _auxk(
    parts: Parts, weights: Any, inputs: jax.Array, residual: jax.Array, a: jax.Array, dead: jax.Array
) -> jax.Array:
    """AuxK with its weight: scalar. Its gradient reaches dead units alone, and never ``b_dec``."""
    config, axis_name = parts.config, parts.axis_name
    W_dec = weights["W_enc"].T if config.tied else weights["W_dec"]
    examples = tuple(range(a.ndim - 1))
    mean = mean_over_devices(inputs.mean(axis=examples, keepdims=True), axis_name)
    variance = mean_over_devices(jnp.sum((inputs - mean) ** 2, axis=-1).mean(), axis_name)
    if parts.net.centred:
        # Zero in value. Its gradient cancels that of b_dec through the encoder: the residual already contains b_dec.
        b_dec, W_enc = weights["b_dec"], weights["W_enc"]
        back = b_dec @ lax.stop_gradient(W_enc) - lax.stop_gradient(b_dec @ W_enc)
        a = a + back.reshape((1,) * len(examples) + (-1,))
    aux = losses.auxk_loss(residual, a, W_dec, dead, k_aux=config.k_aux, axis_name=axis_name)
    # Its authors divide the reconstruction error by the variance, and have no 1/2: both are made up for here. A patch counts
    # for its share of the image, as if patches did not overlap.
    share = math.prod(parts.image_shape) / parts.patches.d_in
    return config.auxk * 0.5 * share * variance * aux.mean()
