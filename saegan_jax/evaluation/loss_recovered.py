"""What a model loses when its activations are replaced by an autoencoder's reconstruction, through a function of the user's."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Activations = NDArray[np.float32]


class LossRecovered(NamedTuple):
    """What `loss_recovered` returns.

    Attributes:
      recovered: ``(ablated - patched) / (ablated - clean)``: 1 where the reconstruction does as well as the activations, 0
        where it does no better than their ablation; below 0 where it does worse. Infinite or NaN where ablation costs nothing.
      clean, patched, ablated: the model's mean losses with the activations, their reconstructions, and without them.
    """

    recovered: float
    clean: float
    patched: float
    ablated: float


def loss_recovered(
    loss: Callable[[Activations], float],
    x: Activations,
    reconstruct: Callable[[Activations], Activations],
    *,
    ablation: Activations | None = None,
) -> LossRecovered:
    """Share of a model's loss that reconstructions keep.

    Args:
      loss: ``loss(activations)``: runs the rest of the model on activations ``(n, d)`` in place of its own, and returns its
        mean loss on the same inputs.
      x: the model's own activations of them, ``(n, d)``.
      reconstruct: of an autoencoder, for instance :meth:`saegan_jax.training.vectors.TrainedSAE.reconstruct`.
      ablation: ``(d,)``, what stands for absent activations: zeros by default; their mean is a harder comparison.

    Raises:
      ValueError: reconstructions of another shape, or a loss that is not a finite number.
    """
    x_hat = np.asarray(reconstruct(x))
    if x.ndim != 2 or x_hat.shape != x.shape:
        raise ValueError(f"activations must be (n, d) and reconstructed as such, got {x.shape} and {x_hat.shape}.")
    absent = np.zeros(x.shape[1], np.float32) if ablation is None else np.asarray(ablation, np.float32)
    if absent.shape != x.shape[1:]:
        raise ValueError(f"ablation must be ({x.shape[1]},), got {absent.shape}.")
    given = {"clean": x, "patched": x_hat, "ablated": np.broadcast_to(absent, x.shape).astype(np.float32)}
    losses = {name: float(loss(activations)) for name, activations in given.items()}
    for name, value in losses.items():
        if not math.isfinite(value):
            raise ValueError(f"the {name} loss is {value}: the model must give a finite number.")
    cost = losses["ablated"] - losses["clean"]
    gained = losses["ablated"] - losses["patched"]
    recovered = gained / cost if cost else math.copysign(math.inf, gained) if gained else math.nan
    return LossRecovered(recovered, **losses)
