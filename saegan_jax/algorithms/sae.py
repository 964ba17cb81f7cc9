"""Training a sparse autoencoder: reconstruction plus a sparsity term, as pure functions."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.scipy.special import logit
from jax.typing import ArrayLike

from saegan_jax import losses
from saegan_jax.activations import heaviside
from saegan_jax.algorithms.base import Algorithm, Batch
from saegan_jax.algorithms.ema import ema_update
from saegan_jax.algorithms.optimisers import apply_gradients
from saegan_jax.errors import require, require_choice, require_non_negative, require_positive
from saegan_jax.images import flatten_images
from saegan_jax.networks.autoencoders import BATCH_TOPK, SparseAutoencoder, Variant

PreBias = Literal["none", "mean", "median"]
RhoHat = Literal["batch", "running"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
COUNTED = ("topk", *BATCH_TOPK)  # their sparsity is k, not a penalty


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """Settings of a sparse autoencoder and of its training."""

    variant: Variant = "kl"
    """kl: sigmoid codes, Bernoulli KL to rho. rate_kl: ReLU codes, Poisson KL. l1: ReLU codes, L1. topk: the k largest of each
    example. batch_topk: the k * batch largest of the batch. matryoshka: batch_topk whose first units must do alone. jumprelu:
    a learned threshold, L0 penalty. gated: gate and magnitude apart, L1 on the gate. wta: each unit's rho * batch largest."""
    d_sae: int = 128
    """Number of units."""
    rho: float = 0.05
    """Target mean activation of a unit (kl, rate_kl), or the share of a batch in which it may be active (wta)."""
    beta: float = 3.0
    """Weight of the sparsity term beside 1/2 squared error summed over pixels (kl, rate_kl, l1, jumprelu, gated)."""
    k: int = 25
    """Active units per example (topk; batch_topk and matryoshka on average)."""
    rho_hat: RhoHat = "batch"
    """Mean activation that the KL compares with rho: the batch's, or a running mean, for batches too small to show it."""
    levels: tuple[int, ...] = ()
    """Matryoshka: sizes of the nested dictionaries, increasing; empty for an eighth, a quarter, a half and all of d_sae."""
    tied: bool = False
    """Decode with the encoder's weights transposed."""
    sparse_decoder: bool = False
    """Train the decoder by the k active rows of W_dec of each example alone (topk): the same loss and gradients up to rounding,
    faster for dictionaries of many thousand units, slower for small ones."""
    decoder_norm: float = 1.0
    """Norm at which every row of W_dec is kept, so that a faint code cannot be made up for by a large weight; sigmoid codes
    reach 1 at most, so that bright images want more than 1. 0 leaves the decoder free."""
    pre_bias: PreBias = "none"
    """mean or median: the encoder sees x - b_dec, and b_dec starts at the training images' mean or geometric median."""
    sigmoid_output: bool = False
    """End the decoder in a sigmoid, as UFLDL's autoencoder does."""
    patch_size: int = 0
    """Convolutional: side of the square patch that a code describes, sparse at every position; 0 for the whole image."""
    stride: int = 2
    """Convolutional: pixels between neighbouring patches; overlapping reconstructions are averaged."""
    bandwidth: float = 0.1
    """Width of the kernel that estimates jumprelu's gradient in its threshold, in the unit of the pre-activations."""
    initial_threshold: float = 0.1
    """Jumprelu's threshold at the start, in the same unit."""
    auxk: float = 0.0
    """Weight of AuxK, by which dead units learn to explain what the others miss; 1/32 is usual."""
    k_aux: int = 64
    """Dead units that AuxK uses per example."""
    resample_every: int = 0
    """Steps between two resamplings, which point dead units at badly explained examples; 0 for never."""
    dead_after: int = 200
    """Steps without activity after which a unit counts as dead."""
    sparsity_warmup: int = 0
    """Steps over which the sparsity term's weight grows from 0 to beta."""
    weight_decay: float = 0.0
    """Coefficient of 1/2 squared Frobenius norm of the weight matrices in the loss (UFLDL's lambda)."""
    learning_rate: float = 2e-3
    """Adam's step size, decayed to a tenth along a cosine."""
    batch_size: int = 256
    """Examples a step; the KL term's minibatch bias is about 1/(2 batch_size) nats a unit."""
    steps: int = 4000
    """Number of training steps."""
    active_threshold: float | None = None
    """A code above this counts as active (L0, dead units, the sparse prior); by default 0.1 for sigmoid codes, which are never
    0, and 0 for all others."""

    def __post_init__(self) -> None:
        require_choice("variant", self.variant, VARIANTS)
        require_choice("rho_hat", self.rho_hat, get_args(RhoHat))
        require_choice("pre_bias", self.pre_bias, get_args(PreBias))
        require_positive(d_sae=self.d_sae, learning_rate=self.learning_rate, k=self.k, k_aux=self.k_aux)
        require_positive(batch_size=self.batch_size, steps=self.steps, stride=self.stride, dead_after=self.dead_after)
        require_positive(bandwidth=self.bandwidth)
        require_non_negative(beta=self.beta, weight_decay=self.weight_decay, decoder_norm=self.decoder_norm)
        require_non_negative(auxk=self.auxk, resample_every=self.resample_every, patch_size=self.patch_size)
        require_non_negative(initial_threshold=self.initial_threshold, sparsity_warmup=self.sparsity_warmup)
        require_non_negative(active_threshold=self.active_above)
        require(
            0 < self.rho < 1,
            "rho",
            self.rho,
            "it is a mean activation or a share and must lie strictly between 0 and 1; try 0.05.",
        )
        if self.sparse_decoder:
            fix = "only topk has at most k active units in every row; use variant='topk', or turn it off."
            require(self.variant == "topk", "sparse_decoder", True, fix)
            require(
                not self.tied, "sparse_decoder", True, "a tied decoder has no rows of its own; turn one of them off."
            )
        if self.variant in COUNTED:
            require(self.k <= self.d_sae, "k", self.k, f"there are only d_sae={self.d_sae} units to choose from.")
        require(
            not (self.tied and self.decoder_norm),
            "decoder_norm",
            self.decoder_norm,
            "a tied decoder is the encoder, whose norm must stay free; set decoder_norm=0, or tied=False.",
        )
        require(
            self.variant not in ("rate_kl", "l1", "gated") or self.decoder_norm > 0 or self.tied,
            "decoder_norm",
            self.decoder_norm,
            f"with a free decoder the {self.variant} penalty only shrinks codes while the decoder grows; keep its rows at a "
            "norm, for instance decoder_norm=1.",
        )
        require(
            self.rho_hat == "batch" or self.variant in ("kl", "rate_kl"),
            "rho_hat",
            self.rho_hat,
            f"{self.variant} has no target mean activation; leave it at batch, or use kl or rate_kl.",
        )
        require(
            not self.levels or self.variant == "matryoshka",
            "levels",
            self.levels,
            f"only matryoshka nests dictionaries; leave it empty for {self.variant}.",
        )
        levels = self.nested
        require(
            all(0 < a < b for a, b in pairwise(levels)) and levels[-1] == self.d_sae,
            "levels",
            self.levels,
            f"sizes must increase from at least 1 and end with d_sae={self.d_sae}.",
        )
        require(
            self.patch_size == 0 or (self.patch_size >= self.stride and (self.patch_size - self.stride) % 2 == 0),
            "patch_size",
            self.patch_size,
            f"it must exceed stride={self.stride} by an even number (or equal it), so that patches lie centred on the image.",
        )

    @property
    def active_above(self) -> float:
        """``active_threshold``, or the variant's own."""
        if self.active_threshold is not None:
            return self.active_threshold
        return 0.1 if self.variant == "kl" else 0.0

    @property
    def nested(self) -> tuple[int, ...]:
        """Sizes of the dictionaries that must each reconstruct alone; only matryoshka has several."""
        if self.variant != "matryoshka":
            return (self.d_sae,)
        return self.levels or tuple(sorted({max(1, self.d_sae // n) for n in (8, 4, 2, 1)}))


@flax.struct.dataclass
class SAEHyper:
    """Settings that may differ between the members of one vmapped sweep: scalars, see :class:`SAEConfig`."""

    rho: jax.Array
    beta: jax.Array
    k: jax.Array
    learning_rate: jax.Array


def hyper(config: SAEConfig) -> SAEHyper:
    """Those of ``config``."""
    rho, beta, rate = (jnp.asarray(value, jnp.float32) for value in (config.rho, config.beta, config.learning_rate))
    return SAEHyper(rho=rho, beta=beta, k=jnp.asarray(config.k, jnp.int32), learning_rate=rate)


@flax.struct.dataclass
class SAEState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: of :class:`SparseAutoencoder`, in Flax's ``{"params": ...}``.
      opt_state: optax state.
      hyper: settings that a sweep varies.
      mean_activation: ``(d_sae,)``, running mean of the batch means (rho_hat).
      density: ``(d_sae,)``, running share of examples (and positions) in which a unit is active.
      steps_since_active: ``(d_sae,)`` int32, steps since a unit was last active in any example.
    """

    step: jax.Array
    key: jax.Array
    params: Any
    opt_state: Any
    hyper: SAEHyper
    mean_activation: jax.Array
    density: jax.Array
    steps_since_active: jax.Array


class SAEInfo(NamedTuple):
    """Scalars of one step.

    Attributes:
      loss: all terms, weighed.
      reconstruction: 1/2 squared error summed over pixels, mean over examples; of matryoshka, mean over its levels.
      sparsity: the variant's term before its weight; 0 where k rules.
      auxiliary: AuxK and the gated variant's own second reconstruction, weighed.
      l0: active codes an example, mean over the batch.
      dead_fraction: share of units inactive for ``dead_after`` steps.
    """

    loss: jax.Array
    reconstruction: jax.Array
    sparsity: jax.Array
    auxiliary: jax.Array
    l0: jax.Array
    dead_fraction: jax.Array


class SAETerms(NamedTuple):
    """What :attr:`Autoencoder.loss` gives beside the loss: three of :class:`SAEInfo`'s scalars, and arrays.

    Attributes:
      reconstruction, sparsity, auxiliary: see :class:`SAEInfo`.
      codes: ``(batch, d_sae)``, or with patches ``(batch, rows, columns, d_sae)``, as training makes them.
      inputs: what was encoded, ``(batch, [rows, columns,] d_in)``.
      residual: ``inputs`` minus their reconstruction.
    """

    reconstruction: jax.Array
    sparsity: jax.Array
    auxiliary: jax.Array
    codes: jax.Array
    inputs: jax.Array
    residual: jax.Array


class Autoencoder(NamedTuple):
    """Every variant, dense or convolutional, as three pure functions of its parameters.

    Attributes:
      encode: ``encode(params, images, *, k=None) -> codes``: ``(batch, height, width, channels)`` in [0, 1] to
        ``(batch, d_sae)``, or with patches to ``(batch, rows, columns, d_sae)``. As after training: each image for itself.
        ``k`` overrides the setting, for members of a sweep.
      pre_activations: ``pre_activations(params, images)``, what the codes are made from, of the codes' shape.
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
    decode: Callable[..., jax.Array]
    loss: Callable[..., tuple[jax.Array, SAETerms]]
    inputs: Callable[[jax.Array], jax.Array]
    d_in: int
    positions: tuple[int, ...]


STATISTICS_DECAY = 0.99


def module(config: SAEConfig, d_in: int) -> Any:
    """The network that ``config`` describes, for ``d_in`` inputs: a :class:`SparseAutoencoder`."""
    return SparseAutoencoder(
        d_in=d_in,
        d_sae=config.d_sae,
        variant=config.variant,
        k=config.k,
        tied=config.tied,
        centred=config.pre_bias != "none",
        sigmoid_output=config.sigmoid_output,
        initial_logit=_initial_logit(config),
        initial_threshold=config.initial_threshold,
        bandwidth=config.bandwidth,
    )


def _initial_logit(config: SAEConfig) -> float:
    return math.log(config.rho / (1 - config.rho)) if config.variant == "kl" else 0.0


Images = Callable[[jax.Array], jax.Array]


def _patches(config: SAEConfig, image_shape: tuple[int, int, int]) -> tuple[Images, Images, int, tuple[int, ...]]:
    """``(cut, join, d_in, positions)``: images to what is encoded, and its reconstructions back to images.

    Raises:
      ConfigError: an image that the stride does not divide.
    """
    height, width, channels = image_shape
    p, s = config.patch_size, config.stride
    if p == 0:
        d_in = math.prod(image_shape)
        return flatten_images, lambda x: x.reshape(-1, *image_shape), d_in, ()
    require(
        height % s == 0 and width % s == 0 and p <= min(height, width),
        "stride",
        s,
        f"it must divide both sides of the {height}x{width} images, which must hold a patch of patch_size={p}.",
    )
    rows, columns, pad = height // s, width // s, (p - s) // 2

    def cut(images: jax.Array) -> jax.Array:
        padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        pixels = [
            padded[:, u : u + s * (rows - 1) + 1 : s, v : v + s * (columns - 1) + 1 : s]
            for u in range(p)
            for v in range(p)
        ]
        return jnp.concatenate(pixels, axis=-1)

    def total(x: jax.Array) -> jax.Array:
        one = jax.ShapeDtypeStruct((x.shape[0], *image_shape), x.dtype)
        return jax.linear_transpose(cut, one)(x)[0]

    def join(x: jax.Array) -> jax.Array:
        # Each pixel is the mean of the patches that cover it.
        return total(x) / total(jnp.ones((1, *x.shape[1:]), x.dtype))

    return cut, join, p * p * channels, (rows, columns)


def autoencoder(config: SAEConfig, *, image_shape: tuple[int, int, int], axis_name: str | None = None) -> Autoencoder:
    """Encode, decode and loss of the variant that ``config`` names.

    ``loss = mean_n 1/2 ||x_hat_n - x_n||^2 + beta * sparsity + auxiliary + weight_decay / 2 (||W_enc||^2 + ||W_dec||^2)``

    =============  ========================================================================================
    variant        sparsity
    =============  ========================================================================================
    kl             sum_j KL(rho || rho_hat_j), :func:`saegan_jax.losses.kl_sparsity_from_logits`
    rate_kl        sum_j of :func:`saegan_jax.losses.kl_sparsity_rate`
    l1             mean_n ||h_n||_1
    jumprelu       mean_n ||h_n||_0, its gradient in the thresholds estimated
    gated          mean_n ||relu(gate_n)||_1; and as auxiliary the reconstruction from relu(gate), decoder held constant
    topk, wta, batch_topk, matryoshka   none; AuxK as auxiliary if ``auxk`` > 0
    =============  ========================================================================================

    AuxK is weighed as its authors do beside a reconstruction error divided by the inputs' variance.

    Args:
      config: see :class:`SAEConfig`.
      image_shape: ``(height, width, channels)``.
      axis_name: a mapped axis (vmap or shard_map) whose members hold equal shares of one batch; means and competition of
        units are then over all of them, and gradients must be averaged with ``lax.pmean``.

    Raises:
      ConfigError: patches that do not fit the image.

    Source: Ng, CS294A lecture notes "Sparse autoencoder", 2011 (kl); Bricken et al., Towards monosemanticity, 2023 (l1);
    Makhzani and Frey, k-sparse autoencoders, 2013, and Gao et al., Scaling and evaluating sparse autoencoders, 2024 (topk,
    AuxK); Bussmann et al., BatchTopK sparse autoencoders, 2024; Bussmann et al., Learning multi-level features with
    Matryoshka sparse autoencoders, 2025; Rajamanoharan et al., Jumping ahead, 2024 (jumprelu), and Improving dictionary
    learning with gated sparse autoencoders, 2024 (gated); Makhzani and Frey, Winner-take-all autoencoders, 2015 (wta).
    """
    cut, join, d_in, positions = _patches(config, image_shape)
    net = module(config, d_in)
    levels = config.nested

    def mean_over_devices(x: jax.Array) -> jax.Array:
        return x if axis_name is None else lax.pmean(x, axis_name)

    def encode(params: Any, images: jax.Array, *, k: ArrayLike | None = None) -> jax.Array:
        return net.apply(params, cut(images), k=k, method="encode")

    def pre_activations(params: Any, images: jax.Array) -> jax.Array:
        return net.apply(params, cut(images), method="pre_activations")

    def decode(params: Any, codes: jax.Array) -> jax.Array:
        return join(net.apply(params, codes, method="decode"))

    def sparsity_of(
        params: Any, a: jax.Array, codes: jax.Array, hyper: SAEHyper, running: jax.Array | None
    ) -> jax.Array:
        examples = tuple(range(a.ndim - 1))
        if config.variant in ("kl", "rate_kl"):
            if config.variant == "kl" and config.rho_hat == "batch":
                kl = losses.kl_sparsity_from_logits(a, hyper.rho, axis=examples, axis_name=axis_name)
                return jnp.sum(kl)
            rho_hat = losses.mean_activation(codes, axis=examples, axis_name=axis_name)
            if config.rho_hat == "running":
                if running is None:
                    raise ValueError('rho_hat="running" needs mean_activation, the running mean of each unit.')
                mixed = ema_update(running, rho_hat, decay=STATISTICS_DECAY)
                # Value of the running mean, gradient of the batch's: that of the mean itself would be a hundredth.
                rho_hat = rho_hat + lax.stop_gradient(mixed - rho_hat)
            divergence = losses.kl_sparsity if config.variant == "kl" else losses.kl_sparsity_rate
            return jnp.sum(divergence(rho_hat, hyper.rho))
        if config.variant == "l1":
            return losses.l1_sparsity(codes).sum() / a.shape[0]
        if config.variant == "jumprelu":
            threshold = jnp.broadcast_to(params["params"]["threshold"].reshape((1,) * (a.ndim - 1) + (-1,)), a.shape)
            return heaviside(a, threshold, config.bandwidth).sum() / a.shape[0]
        if config.variant == "gated":
            return losses.l1_sparsity(jax.nn.relu(a)).sum() / a.shape[0]
        return jnp.zeros((), a.dtype)

    def squared_error(target: jax.Array, x_hat: jax.Array) -> jax.Array:
        residual = (x_hat - target).reshape(-1)
        return 0.5 * jnp.vdot(residual, residual) / target.shape[0]

    def loss(
        params: Any,
        images: jax.Array,
        *,
        hyper: SAEHyper,
        mean_activation: jax.Array | None = None,
        dead: jax.Array | None = None,
    ) -> tuple[jax.Array, SAETerms]:
        inputs = cut(images)
        a = net.apply(params, inputs, method="pre_activations")
        codes = net.apply(params, a, k=hyper.k, rho=hyper.rho, axis_name=axis_name, method="activate_batch")
        if config.sparse_decoder:
            outputs = [net.apply(params, codes, k=config.k, method="decode_sparse")]
        else:
            outputs = net.apply(params, codes, levels, method="decode_levels")
        # Of whole images, as vectors: their last axis, of one or three channels, is a bad one to loop over.
        target, x_hats = (images, [join(x) for x in outputs]) if positions else (inputs, outputs)
        reconstruction = jnp.stack([squared_error(target, x_hat) for x_hat in x_hats]).mean()
        residual = inputs - (cut(x_hats[-1]) if positions else outputs[-1])
        sparsity = sparsity_of(params, a, codes, hyper, mean_activation)
        weights = params["params"]
        W_dec = weights["W_enc"].T if config.tied else weights["W_dec"]
        auxiliary = jnp.zeros((), a.dtype)
        if config.variant == "gated":
            fixed = lax.stop_gradient(params)
            auxiliary = squared_error(images, decode(fixed, jax.nn.relu(a)))
        if config.auxk:
            if dead is None:
                raise ValueError("auxk > 0 needs dead, which units are dead: (d_sae,) bool.")
            examples = tuple(range(a.ndim - 1))
            mean = mean_over_devices(inputs.mean(axis=examples, keepdims=True))
            variance = mean_over_devices(jnp.sum((inputs - mean) ** 2, axis=-1).mean())
            if net.centred:
                # Zero in value; takes back the way to b_dec, which belongs to the main reconstruction alone.
                b_dec, W_enc = weights["b_dec"], weights["W_enc"]
                back = b_dec @ lax.stop_gradient(W_enc) - lax.stop_gradient(b_dec @ W_enc)
                a = a + back.reshape((1,) * len(examples) + (-1,))
            aux = losses.auxk_loss(residual, a, W_dec, dead, k_aux=config.k_aux, axis_name=axis_name)
            # 1/2 and the variance: beside our reconstruction as 1 is beside its normalised form. A patch stands for its share
            # of the image, overlaps counted once.
            share = math.prod(image_shape) / d_in
            auxiliary = auxiliary + config.auxk * 0.5 * share * variance * aux.mean()
        value = reconstruction + hyper.beta * sparsity + auxiliary
        if config.weight_decay:
            decayed = [w.reshape(-1) for name, w in weights.items() if name.startswith("W_")]
            value += 0.5 * config.weight_decay * sum(jnp.vdot(w, w) for w in decayed)
        return value, SAETerms(reconstruction, sparsity, auxiliary, codes, inputs, residual)

    return Autoencoder(encode, pre_activations, decode, loss, cut, d_in, positions)


def within_bounds(config: SAEConfig, params: Any) -> Any:
    """``params`` with the decoder's rows at the norm where ``config`` keeps them, and jumprelu's thresholds at least 0."""
    if config.decoder_norm:
        W_dec = params["params"]["W_dec"]
        params = _with(params, W_dec=config.decoder_norm * W_dec / jnp.linalg.norm(W_dec, axis=-1, keepdims=True))
    if config.variant == "jumprelu":
        params = _with(params, threshold=jnp.maximum(params["params"]["threshold"], 0.0))
    return params


def tangent(config: SAEConfig, gradients: Any, params: Any) -> Any:
    """``gradients`` without what :func:`within_bounds` would undo, but Adam's second moment would remember: norms' growth."""
    if not config.decoder_norm:
        return gradients
    W_dec, g = params["params"]["W_dec"], gradients["params"]["W_dec"]
    unit = W_dec / config.decoder_norm
    return _with(gradients, W_dec=g - jnp.sum(g * unit, axis=-1, keepdims=True) * unit)


def sae(
    config: SAEConfig,
    *,
    image_shape: tuple[int, int, int],
    member: SAEHyper | None = None,
    center: jax.Array | None = None,
    axis_name: str | None = None,
) -> Algorithm:
    """A sparse autoencoder on images in [0, 1], trained with Adam along a cosine; its loss: :func:`autoencoder`.

    Args:
      config: see :class:`SAEConfig`.
      image_shape: ``(height, width, channels)``.
      member: the swept settings that ``init`` puts in the state in place of the configuration's, for instance traced
        under ``vmap``; ``step`` and ``sample`` read the state's.
      center: ``(d_in,)``, where ``b_dec`` starts with ``pre_bias``, see :func:`saegan_jax.algorithms.center.center`; by
        default zeros. Only ``init`` reads it.
      axis_name: a mapped axis over which the batch is spread: see :func:`autoencoder`.

    Returns:
      An :class:`Algorithm`. Its ``sample`` decodes independent units, each active with its running density at its running
      mean magnitude: a picture of what the dictionary draws without any joint model of its codes.

    Raises:
      ConfigError: patches that do not fit the image, or a sparse decoder, whose k is fixed, with a ``member``.
      ValueError: a ``center`` of another shape.
    """
    fix = "the members of a sweep may have other k; turn it off."
    require(member is None or not config.sparse_decoder, "sparse_decoder", True, fix)
    functions = autoencoder(config, image_shape=image_shape, axis_name=axis_name)
    net = module(config, functions.d_in)
    d_in, d_sae = net.d_in, net.d_sae
    # The rate itself is the member's.
    cosine = optax.cosine_decay_schedule(1.0, config.steps, alpha=0.1)
    optimiser = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(cosine))
    if center is not None and center.shape != (d_in,):
        raise ValueError(f"center has shape {center.shape}, but must be ({d_in},), one value per input of the network.")

    def init(key: jax.Array) -> SAEState:
        own = hyper(config) if member is None else member
        params_key, run_key = jax.random.split(key)
        params = net.init(params_key, jnp.zeros((1, d_in)))
        if config.variant == "kl" and member is not None:
            params = _with(params, b_enc=jnp.broadcast_to(logit(own.rho).reshape(1), (d_sae,)))
        if center is not None and config.pre_bias != "none":
            params = _with(params, b_dec=center.astype(jnp.float32) + 0.0)
        params = within_bounds(config, params)
        # Separate buffers: a donated state may not hold one array twice. With a dtype: a weakly typed number would become a
        # strong one in the first step, and compile every program twice.
        return SAEState(
            step=jnp.zeros((), jnp.int32),
            key=run_key,
            params=params,
            opt_state=optimiser.init(params),
            hyper=own,
            mean_activation=own.rho * jnp.ones((d_sae,), jnp.float32),
            density=own.rho * jnp.ones((d_sae,), jnp.float32),
            steps_since_active=jnp.zeros((d_sae,), jnp.int32),
        )

    def over_devices(x: Any, reduce: Callable[..., Any] = lax.pmean) -> Any:
        return x if axis_name is None else reduce(x, axis_name)

    def step(state: SAEState, batch: Batch) -> tuple[SAEState, SAEInfo]:
        settings, dead = state.hyper, state.steps_since_active >= config.dead_after
        weights = settings
        if config.sparsity_warmup:
            ramp = jnp.minimum((state.step + 1).astype(jnp.float32) / config.sparsity_warmup, 1.0)
            weights = replace(settings, beta=ramp * settings.beta)

        def objective(params: Any) -> tuple[jax.Array, SAETerms]:
            running = state.mean_activation if config.rho_hat == "running" else None
            return functions.loss(params, batch.image, hyper=weights, mean_activation=running, dead=dead)

        (loss, terms), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        gradients = over_devices(gradients)
        gradients = tangent(config, gradients, state.params)
        rate = settings.learning_rate
        params, opt_state = apply_gradients(optimiser, gradients, state.opt_state, state.params, rate=rate)
        params = within_bounds(config, params)
        codes = terms.codes
        if config.variant in BATCH_TOPK:
            least = over_devices(jnp.min(jnp.where(codes > 0, codes, jnp.inf)), lax.pmin)
            old = params["params"]["threshold"]
            # A plain mean of the first hundred steps: an average that started from 0 would remember it for long.
            decay = jnp.minimum(STATISTICS_DECAY, state.step.astype(jnp.float32) / (state.step + 1).astype(jnp.float32))
            kept = jnp.where(jnp.isfinite(least), decay, 1.0)
            params = _with(params, threshold=kept * old + (1 - kept) * jnp.where(jnp.isfinite(least), least, 0.0))
        examples = tuple(range(codes.ndim - 1))
        active = codes > config.active_above
        density = over_devices(active.mean(axis=examples, dtype=jnp.float32))
        mean = losses.mean_activation(codes, axis=examples, axis_name=axis_name)
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
            new = lax.cond(due, lambda: resample(new, terms), lambda: new)
        info = SAEInfo(
            loss=over_devices(loss),
            reconstruction=over_devices(terms.reconstruction),
            sparsity=over_devices(terms.sparsity),
            auxiliary=over_devices(terms.auxiliary),
            l0=density.sum() * math.prod(functions.positions),
            dead_fraction=dead.mean(dtype=jnp.float32),
        )
        return new, info

    def resample(state: SAEState, terms: SAETerms) -> SAEState:
        """Dead units start afresh, each at an example drawn with probability proportional to the square of its loss."""
        dead = state.steps_since_active >= config.dead_after
        inputs, residual = terms.inputs.reshape(-1, d_in), terms.residual.reshape(-1, d_in)
        if axis_name is not None:
            inputs, residual = (lax.all_gather(x, axis_name, tiled=True) for x in (inputs, residual))
        p = state.params["params"]
        seen = inputs - p["b_dec"].reshape(1, -1) if net.centred else inputs
        sound = jnp.linalg.norm(seen, axis=-1) > 1e-6  # an empty example has no direction to start from
        loss = jnp.maximum(jnp.sum(residual**2, axis=-1), jnp.finfo(residual.dtype).tiny)
        draw_key, direction_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        chosen = jax.random.categorical(draw_key, jnp.where(sound, 2 * jnp.log(loss), -jnp.inf), shape=(d_sae,))
        anywhere = jax.random.normal(direction_key, (d_sae, d_in))
        direction = jnp.where(sound[chosen].reshape(-1, 1), seen[chosen], anywhere)
        direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
        living = ~dead | jnp.all(dead)  # without a living unit, the norm of all
        alive = jnp.mean(jnp.linalg.norm(p["W_enc"], axis=0), where=living)
        fresh = {
            "W_enc": 0.2 * alive * direction.T,
            "W_dec": (config.decoder_norm or 1.0) * direction,
            "b_enc": jnp.zeros_like(p["b_enc"]),
            "threshold": jnp.full((d_sae,), config.initial_threshold, jnp.float32),
            "r_mag": jnp.zeros((d_sae,), jnp.float32),
            "b_mag": jnp.zeros((d_sae,), jnp.float32),
        }
        if config.variant == "kl":
            fresh["b_enc"] = jnp.broadcast_to(logit(state.hyper.rho).reshape(1), (d_sae,))
        if config.variant in BATCH_TOPK:
            del fresh["threshold"]  # it belongs to the whole batch

        def of_dead(name: str, new: jax.Array, old: jax.Array) -> jax.Array:
            mask = dead.reshape(-1, 1) if name == "W_dec" else dead.reshape((1,) * (old.ndim - 1) + (-1,))
            return jnp.where(mask, new, old)

        def forget(moments: Any) -> Any:
            return _with(
                moments, **{n: of_dead(n, jnp.zeros_like(m), m) for n, m in moments["params"].items() if n in fresh}
            )

        adam, *rest = state.opt_state
        return replace(
            state,
            params=_with(state.params, **{n: of_dead(n, fresh[n], old) for n, old in p.items() if n in fresh}),
            opt_state=(adam._replace(mu=forget(adam.mu), nu=forget(adam.nu)), *rest),
            mean_activation=jnp.where(dead, state.hyper.rho, state.mean_activation),
            density=jnp.where(dead, state.hyper.rho, state.density),
            steps_since_active=jnp.where(dead, 0, state.steps_since_active),
        )

    def sample(state: SAEState, key: jax.Array, n: int) -> jax.Array:
        magnitude = state.mean_activation / jnp.maximum(state.density, 1e-6)
        leading = (n, *functions.positions)
        row = (1,) * len(leading) + (-1,)
        active = jax.random.bernoulli(key, state.density.reshape(row), (*leading, d_sae))
        images = functions.decode(state.params, jnp.where(active, magnitude.reshape(row), 0.0))
        return jnp.clip(images, 0.0, 1.0)

    return Algorithm(init, step, sample)


def _with(params: Any, **changed: jax.Array) -> Any:
    """``{"params": ...}`` with some arrays replaced."""
    return {"params": {**params["params"], **changed}}
