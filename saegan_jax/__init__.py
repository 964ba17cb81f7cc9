"""Sparse autoencoders inside generative models, in JAX and Flax.

Import the part you need: ``from saegan_jax import losses`` touches no device and imports nothing beyond jax.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saegan_jax.training.pretrained import from_pretrained as from_pretrained
    from saegan_jax.training.pretrained import pretrained as pretrained

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    # Only when it is asked for: the losses need neither Flax nor files.
    if name in ("from_pretrained", "pretrained"):
        from saegan_jax.training import pretrained

        return getattr(pretrained, name)
    raise AttributeError(f"module 'saegan_jax' has no attribute {name!r}")
