"""BatchTopK whose first units must also reconstruct alone: the loss is the mean over nested dictionaries.

Source: Bussmann et al., Learning multi-level features with Matryoshka sparse autoencoders, 2025.
"""

from saegan_jax.algorithms.sae.groups import SAESettings
from saegan_jax.algorithms.sae.variants.batch_topk import VARIANT as BATCH_TOPK


def levels(config: SAESettings) -> tuple[int, ...]:
    """``config.levels``, or an eighth, a quarter, a half and all of the units."""
    return config.levels or tuple(sorted({max(1, config.d_sae // n) for n in (8, 4, 2, 1)}))


VARIANT = BATCH_TOPK._replace(levels=levels)
