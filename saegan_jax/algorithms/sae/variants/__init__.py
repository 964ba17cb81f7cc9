"""The registry of variants: a new one is one file beside these and one line here."""

from saegan_jax.algorithms.sae.variants import batch_topk, gated, jumprelu, kl, l1, matryoshka, rate_kl, topk, wta
from saegan_jax.algorithms.sae.variants.base import SAELens, Variant

__all__ = ["VARIANTS", "SAELens", "Variant"]

VARIANTS: dict[str, Variant] = {
    "kl": kl.VARIANT,
    "rate_kl": rate_kl.VARIANT,
    "l1": l1.VARIANT,
    "topk": topk.VARIANT,
    "batch_topk": batch_topk.VARIANT,
    "matryoshka": matryoshka.VARIANT,
    "jumprelu": jumprelu.VARIANT,
    "gated": gated.VARIANT,
    "wta": wta.VARIANT,
}
