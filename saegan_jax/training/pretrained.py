"""Autoencoders and generators from a folder, ready to use, without the data or the run that they come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.errors import require, require_choice
from saegan_jax.training.generators import GENERATOR_CONFIG, Generator, import_generator
from saegan_jax.training.interchange import CONFIG_FILE
from saegan_jax.training.saved_weights import read_saved

SHIPPED = Path(__file__).parent / "shipped"
"""A folder for each autoencoder that comes with the package, as ``saegan push`` writes it; its card says how it was made."""


@dataclass(frozen=True, kw_only=True)
class SparseAutoencoder:
    """An autoencoder read from files.

    Attributes:
      config: its settings.
      params: ``{"params": {name: float32 array}}``.
      image_shape: ``(height, width, channels)`` of its inputs; ``(1, 1, d)`` of vectors.
    """

    config: SAEConfig
    params: Any
    image_shape: tuple[int, int, int]

    def encode(self, images: jax.Array) -> jax.Array:
        """Codes ``(n, ..., d_sae)`` of inputs ``(n, height, width, channels)`` float32, images in [0, 1].

        Raises:
          ValueError: integer inputs.
        """
        return autoencoder(self.config, image_shape=self.image_shape).encode(self.params, images)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Inputs ``(n, height, width, channels)`` of codes."""
        return autoencoder(self.config, image_shape=self.image_shape).decode(self.params, codes)


def from_pretrained(folder: str | Path) -> SparseAutoencoder | Generator:
    """What ``saegan push``, ``saegan pull``, ``saegan export`` or SAELens wrote; no network is used.

    Returns:
      :class:`SparseAutoencoder` with ``encode`` and ``decode``, or :class:`saegan_jax.training.generators.Generator` with
      ``sample``.

    Raises:
      ValueError: a folder without either, or with damaged files, which are named.
    """
    folder = Path(folder)
    if (folder / GENERATOR_CONFIG).is_file():
        return import_generator(folder)
    fix = (
        f"it has neither {CONFIG_FILE} nor {GENERATOR_CONFIG}; name a folder that `saegan push` or `saegan pull` wrote."
    )
    require((folder / CONFIG_FILE).is_file(), "folder", str(folder), fix)
    return _autoencoder(folder)


def pretrained(name: str) -> SparseAutoencoder:
    """A trained autoencoder that comes with the package; nothing is trained, and no network is used.

    Args:
      name: ``digits-topk``, of the embedded 8x8 digits, or ``shapes-topk``, of patches of the drawn 32x32x3 shapes.

    Raises:
      ConfigError: another name; the message has those there are.
    """
    require_choice("name", name, tuple(sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())))
    return _autoencoder(SHIPPED / name)


def _autoencoder(folder: Path) -> SparseAutoencoder:
    saved = read_saved(folder)
    params = jax.tree.map(jnp.asarray, saved.params)
    return SparseAutoencoder(config=saved.config, params=params, image_shape=saved.image_shape)
