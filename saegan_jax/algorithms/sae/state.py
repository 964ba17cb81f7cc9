"""What the training of a sparse autoencoder carries from step to step, starts from, and reports."""

from typing import Any, NamedTuple

import flax.struct
import jax

from saegan_jax.algorithms.sae.config import SAEHyper


class Start(NamedTuple):
    """Where training starts, read by ``init`` alone.

    Attributes:
      center: ``(d_in,)``, where ``b_dec`` starts with ``pre_bias``, see :func:`saegan_jax.algorithms.geometric_median.center`;
        None for zeros. Not read where ``params`` are given.
      params: trained weights to start from, ``{"params": {name: array}}``, copied as they are; None for new ones. With a kept
        ``decoder_norm`` they should obey it, see :func:`saegan_jax.algorithms.sae.project_params`.
    """

    center: jax.Array | None = None
    params: Any = None


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
      reconstruction: 1/2 squared error summed over pixels, mean over examples; of nested dictionaries, mean over them.
      sparsity: the variant's term before its weight; 0 where the number of active units is set instead.
      auxiliary: AuxK and the variant's auxiliary term, weighed.
      l0: active codes an example, mean over the batch.
      dead_fraction: share of units inactive for ``dead_after`` steps.
    """

    loss: jax.Array
    reconstruction: jax.Array
    sparsity: jax.Array
    auxiliary: jax.Array
    l0: jax.Array
    dead_fraction: jax.Array


def with_weights(params: Any, **changed: jax.Array) -> Any:
    """``{"params": ...}`` with some arrays replaced."""
    return {"params": {**params["params"], **changed}}
