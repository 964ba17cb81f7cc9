"""Saved weights of an autoencoder to train on: what they are, and whether a training can take them up."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from saegan_jax.algorithms.sae import SAEConfig, autoencoder, module
from saegan_jax.data.normalisation import Normalisation, from_json
from saegan_jax.errors import require
from saegan_jax.training.foreign import import_foreign
from saegan_jax.training.interchange import CONFIG_FILE, WEIGHTS_FILE, read_sae
from saegan_jax.training.normalised import unfold

FIXED = ("variant", "d_sae", "tied", "pre_bias", "sigmoid_output", "patch_size", "stride", "decoder_norm")
"""Settings that weights are made for; all others may change between two trainings."""


class SavedWeights(NamedTuple):
    """An autoencoder as it lies on disk.

    Attributes:
      folder: it.
      config: its settings.
      params: of the inputs as they are, ``{"params": {name: float32 array}}``, on the host.
      image_shape: of its inputs.
      normalisation: of the inputs in its training; None where that is not known.
      sha256: of the weights file.
    """

    folder: Path
    config: SAEConfig
    params: Any
    image_shape: tuple[int, int, int]
    normalisation: Normalisation | None
    sha256: str


def read_saved(folder: str | Path) -> SavedWeights:
    """Read what ``saegan export`` or SAELens wrote.

    Raises:
      ValueError: what :func:`read_sae` or :func:`import_foreign` refuses.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        fix = f"it has no {name}; name a folder that `saegan export` or SAELens wrote."
        require((folder / name).is_file(), "from", str(folder), fix)
    cfg: Any = {}
    with suppress(ValueError):  # read_sae says what is wrong
        cfg = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    with (folder / WEIGHTS_FILE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if isinstance(cfg, dict) and cfg and "saegan_jax" not in cfg:
        config, arrays, shape = import_foreign(cfg, folder / WEIGHTS_FILE)
        return SavedWeights(folder, config, {"params": arrays}, shape, None, digest)
    config, arrays, shape = read_sae(folder)
    stored = cfg["saegan_jax"].get("normalisation")
    width = autoencoder(config, image_shape=shape).d_in
    return SavedWeights(folder, config, {"params": arrays}, shape, from_json(stored, width) if stored else None, digest)


def check_saved(saved: SavedWeights, config: SAEConfig, image_shape: tuple[int, int, int]) -> None:
    """Refuse weights that a training with these settings on these inputs cannot take up.

    Raises:
      ConfigError: another setting of :data:`FIXED`, or another width.
    """
    for name in FIXED:
        theirs, ours = getattr(saved.config, name), getattr(config, name)
        option = f"sae.{name}"
        fix = f"the weights in {saved.folder} have {theirs!r}; leave the option out, so that it is theirs."
        require(theirs == ours, option, ours, fix)
    width, theirs = autoencoder(config, image_shape=image_shape).d_in, saved.params["params"]["W_enc"].shape[0]
    fix = f"its weights are for inputs of width {theirs}, and these data have {width}; use data of that width."
    require(width == theirs, "from", str(saved.folder), fix)
    net = module(config, width)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, width), jnp.float32)))["params"]
    missing = sorted(shapes.keys() ^ saved.params["params"].keys())
    require(not missing, "from", str(saved.folder), f"its weights differ in {', '.join(missing)}.")


def start_params(saved: SavedWeights, normalisation: Normalisation | None) -> Any:
    """The weights for inputs that are normalised so; None: as they are."""
    params = saved.params if normalisation is None else unfold(saved.params, normalisation)
    return jax.tree.map(jnp.asarray, params)
