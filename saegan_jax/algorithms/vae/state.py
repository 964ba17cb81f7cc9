"""What a training of a variational autoencoder carries from step to step, and what a step reports."""

from typing import Any, NamedTuple

import flax.struct
import jax


@flax.struct.dataclass
class VAEHyper:
    """Settings that may differ between the members of one vmapped sweep: scalars, see :class:`VAEConfig`."""

    learning_rate: jax.Array
    beta: jax.Array
    alpha: jax.Array
    rho: jax.Array
    beta_sparsity: jax.Array


class VAEParams(NamedTuple):
    """Parameters of both halves."""

    encoder: Any
    decoder: Any


@flax.struct.dataclass
class VAEState:
    """Everything a resumed training needs.

    Attributes:
      step: int32 scalar, steps taken.
      key: the run's key; a step's randomness is ``fold_in(key, step)``.
      params: :class:`VAEParams`.
      opt_state: of Adam.
      hyper: settings that a sweep varies.
    """

    step: jax.Array
    key: jax.Array
    params: VAEParams
    opt_state: Any
    hyper: VAEHyper


class VAEInfo(NamedTuple):
    """Scalars of one step, batch means, nats: ``loss = -log_likelihood + beta(t) kl + beta_sparsity sparsity``.

    ``kl`` is summed over units, ``sparsity`` too (0 but for kl_sae); ``l0`` counts active units, gates by the sum of gamma.
    """

    loss: jax.Array
    log_likelihood: jax.Array
    kl: jax.Array
    sparsity: jax.Array
    l0: jax.Array
