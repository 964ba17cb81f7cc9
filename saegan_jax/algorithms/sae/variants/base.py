"""The record of pure functions and constants that a variant of the sparse autoencoder is, and what several variants share."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.typing import ArrayLike

from saegan_jax import losses
from saegan_jax.algorithms.ema import ema_update
from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.errors import require
from saegan_jax.networks.autoencoders import Initializer, unit_columns

STATISTICS_DECAY = 0.99
"""Of the running means that a training step keeps."""

Weights = Mapping[str, jax.Array]
ImageShape = tuple[int, int, int]


class SAELens(NamedTuple):
    """How SAELens (Bloom, Tigges, Duong and Chanin) names a variant in cfg.json and its tensors.

    Attributes:
      architecture: the value of the key ``architecture``.
      names: our name of a parameter to theirs, where they differ.
      cfg: further keys of cfg.json, from the settings.
    """

    architecture: str
    names: Mapping[str, str] = {}
    cfg: Callable[[SAESettings], Mapping[str, Any]] = lambda config: {}


class Variant(NamedTuple):
    """One kind of sparse code: pure functions of weights and pre-activations, and what other modules need to know of it.

    ``weights`` are the parameters by name, without Flax's ``"params"``: ``W_enc (d_in, d_sae)``, ``b_enc (d_sae,)``, ``W_dec``
    (not if tied), ``b_dec (d_in,)`` and the extra ones, ``(d_sae,)`` each. ``a`` are the pre-activations and ``codes`` what is
    made of them, both ``(batch, [rows, columns,] d_sae)``. A function that is None is not called, and costs a step nothing.

    Attributes:
      activate: ``(config, weights, a, *, k) -> codes`` after training, each row for itself.
      saelens: see :class:`SAELens`.
      activate_batch: ``(config, weights, a, *, k, rho, axis_name) -> codes`` in training, where units compete over the
        batch; ``axis_name`` is a mapped axis whose members hold equal shares of it, or None. None: as after training.
      sparsity: ``(config, weights, a, codes, *, rho, running, axis_name) -> scalar``, the term that ``beta`` weighs;
        ``running`` is the running mean activation ``(d_sae,)`` or None. None where the number of active units is set instead.
      auxiliary: ``(config, weights, a, *, error_of) -> scalar``, a further term of the loss, with
        ``error_of(weights, codes)`` 1/2 squared error summed over pixels, mean over images.
      extra_params: ``(config) -> {name: initial value}``.
      encoder_init: initial ``W_enc``.
      decoder_init: initial ``W_dec``; None for the encoder's transpose.
      encoder_bias: ``(rho) -> initial b_enc``, of a number or a scalar array; None for 0.
      project: ``(weights) -> {name: array}``, what has to change so that the weights obey the variant's constraints.
      statistics: ``(weights, codes, *, step, axis_name) -> {name: array}``, parameters that a step sets from the codes of its
        batch and not by a gradient; ``step`` counts the steps before this one.
      in_units_of_codes: extra parameters that are multiplied by c along with a unit's ``W_enc`` and ``b_enc`` where its code
        is to become c times as large.
      resample_reset: ``(config) -> {name: value}``, extra parameters of a resampled unit; None for the initial values of all.
      levels: ``(config) -> sizes`` of nested dictionaries that must each reconstruct alone; None for the whole one only.
      counts_k: the number of active units is ``k``; there is no penalty to weigh.
      has_target: the mean activation of a unit has the target ``rho``, so that ``rho_hat`` means something.
      active_above: a code above this counts as active, unless ``active_threshold`` says otherwise.
      validate: ``(config) -> None``, raises ConfigError for settings that cannot work with this variant.
      defaults: settings that it wants beside its sparsity, on top of a preset; chosen on MNIST's validation images, one seed.
      study_defaults: ``(image_shape) -> settings`` for studies that start from no preset; None for ``defaults``.
      sweep_axes: what a sweep varies unless it is asked for something else; empty for a variant that is not swept.
      dense_control: changes that make it a dense autoencoder of equal size; None where that is the ReLU one (l1 without a
        penalty).
    """

    activate: Callable[..., jax.Array]
    saelens: SAELens
    activate_batch: Callable[..., jax.Array] | None = None
    sparsity: Callable[..., jax.Array] | None = None
    auxiliary: Callable[..., jax.Array] | None = None
    extra_params: Callable[[SAESettings], Mapping[str, float]] = lambda config: {}
    encoder_init: Initializer = unit_columns
    decoder_init: Initializer | None = None
    encoder_bias: Callable[[Any], Any] | None = None
    project: Callable[[Weights], Weights] | None = None
    statistics: Callable[..., Weights] | None = None
    in_units_of_codes: tuple[str, ...] = ()
    resample_reset: Callable[[SAESettings], Mapping[str, float]] | None = None
    levels: Callable[[SAESettings], tuple[int, ...]] | None = None
    counts_k: bool = False
    has_target: bool = False
    active_above: float = 0.0
    validate: Callable[[SAESettings], None] | None = None
    defaults: Mapping[str, Any] = {}
    study_defaults: Callable[[ImageShape], Mapping[str, Any]] | None = None
    sweep_axes: Mapping[str, tuple[float, ...]] = {}
    dense_control: Mapping[str, Any] | None = None

    @property
    def competes_over_batch(self) -> bool:
        """Whether the code of an image depends, in training, on the others of its batch."""
        return self.activate_batch is not None

    @property
    def k_per_example(self) -> bool:
        """Whether every row has at most ``k`` active units, in training as afterwards."""
        return self.counts_k and not self.competes_over_batch

    def wants(self, image_shape: ImageShape) -> Mapping[str, Any]:
        """Settings for a study on images ``(height, width, channels)`` that starts from no preset."""
        return self.defaults if self.study_defaults is None else self.study_defaults(image_shape)

    @property
    def needs_decoder_norm(self) -> bool:
        """Whether codes could shrink at no cost, were the decoder's rows free to grow."""
        return self.validate is require_decoder_norm


CENTRED: Mapping[str, Any] = {"pre_bias": "mean", "learning_rate": 3e-3, "decoder_norm": 1.0}
"""Settings that rectified codes want."""


def relu(config: SAESettings, weights: Weights, a: jax.Array, *, k: ArrayLike) -> jax.Array:
    """``max(a, 0)``."""
    return jax.nn.relu(a)


def rows_of(a: jax.Array, axis_name: str | None) -> int:
    """Rows of ``(..., d_sae)``: examples times positions, over all members of a mapped axis."""
    return a.size // a.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))


def mean_for_target(
    config: SAESettings, codes: jax.Array, *, running: jax.Array | None, axis_name: str | None
) -> jax.Array:
    """The mean activation that a divergence compares with ``rho``: the batch's, or with ``rho_hat="running"`` the running one.

    Args:
      config: settings; ``rho_hat`` chooses.
      codes: ``(..., d_sae)``.
      running: ``(d_sae,)``, the running mean before this batch.
      axis_name: a mapped axis over which the batch is spread.

    Returns:
      ``(d_sae,)``.

    Raises:
      ValueError: no ``running`` where ``config`` asks for it.
    """
    rho_hat = losses.mean_activation(codes, axis=tuple(range(codes.ndim - 1)), axis_name=axis_name)
    if config.rho_hat == "batch":
        return rho_hat
    if running is None:
        raise ValueError('rho_hat="running" needs mean_activation, the running mean of each unit.')
    mixed = ema_update(running, rho_hat, decay=STATISTICS_DECAY)
    # Value of the running mean, gradient of the batch's: that of the mean itself would be a hundredth.
    return rho_hat + lax.stop_gradient(mixed - rho_hat)


def require_decoder_norm(config: SAESettings) -> None:
    """Refuse a free decoder, which undoes a penalty on magnitudes.

    Raises:
      ConfigError: ``decoder_norm`` 0 without ``tied``.
    """
    require(
        config.decoder_norm > 0 or config.tied,
        "decoder_norm",
        config.decoder_norm,
        f"with a free decoder the {config.variant} penalty only shrinks codes while the decoder grows; keep its rows at a "
        "norm, for instance decoder_norm=1.",
    )


def bounded_decoder_norm(image_shape: ImageShape) -> float:
    """The decoder norm that suits codes of at most 1: images' norms grow as the root of their size."""
    return 3 * math.sqrt(math.prod(image_shape) / 784)  # 3 was chosen on MNIST's validation images
