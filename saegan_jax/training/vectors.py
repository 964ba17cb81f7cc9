"""Training an autoencoder on vectors from Python, without a run folder: arrays, files or a function in, codes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from saegan_jax.algorithms.base import Algorithm, Examples
from saegan_jax.algorithms.sae import SAEConfig, Start, autoencoder, sae
from saegan_jax.data.normalisation import Kind, Normalisation
from saegan_jax.data.stream import Stream
from saegan_jax.data.vector_dataset import VectorDataset, VectorRows, vector_dataset
from saegan_jax.data.vectors import LOOKED_THROUGH, Vectors, open_vectors
from saegan_jax.errors import require
from saegan_jax.metrics import SAEMetrics
from saegan_jax.training.chunks import Chunks, open_chunks
from saegan_jax.training.interchange import export_sae
from saegan_jax.training.memory import data_budget
from saegan_jax.training.normalised import check_foldable
from saegan_jax.training.phase import Phase, check_batch
from saegan_jax.training.saved_weights import SavedWeights, check_saved, read_saved, start_params
from saegan_jax.training.sweep import CENTER_IMAGES, data_center, score
from saegan_jax.training.systems import init_members

LONGEST_CHUNK = 100
"""Steps of one call of the program."""
ENCODED = 4096
"""Vectors encoded at a time."""


@dataclass(frozen=True, eq=False)
class TrainedSAE:
    """An autoencoder of vectors as they are: the normalisation of its training is done and undone inside.

    Attributes:
      config: its settings.
      params: its parameters, of normalised vectors.
      normalisation: of the vectors.
      metrics: on held-out vectors, of the normalised ones (``mse``; all others do not depend on a scale).
    """

    config: SAEConfig
    params: Any
    normalisation: Normalisation
    metrics: SAEMetrics

    @property
    def d_in(self) -> int:
        """Width of the vectors."""
        return len(self.normalisation.mean)

    def encode(self, x: ArrayLike) -> NDArray[np.float32]:
        """Codes ``(n, d_sae)`` of vectors ``(n, d_in)``."""
        return self._map("encode", self.normalisation.apply(self._checked(x, self.d_in)))

    def decode(self, codes: ArrayLike) -> NDArray[np.float32]:
        """Vectors ``(n, d_in)`` of codes ``(n, d_sae)``."""
        z = self._map("decode", self._checked(codes, self.config.d_sae))
        return self.normalisation.undo(z.reshape(-1, self.d_in))

    def reconstruct(self, x: ArrayLike) -> NDArray[np.float32]:
        """``decode(encode(x))``: ``(n, d_in)`` to ``(n, d_in)``."""
        return self.decode(self.encode(x))

    def export(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write weights for vectors as they are: see :func:`saegan_jax.training.interchange.export_sae`."""
        shape, normalisation = (1, 1, self.d_in), self.normalisation
        return export_sae(
            folder, self.config, self.params, image_shape=shape, overwrite=overwrite, normalisation=normalisation
        )

    def _checked(self, values: ArrayLike, width: int) -> NDArray[np.float32]:
        found = np.asarray(values, np.float32)
        if found.ndim != 2 or found.shape[1] != width or not len(found):
            raise ValueError(f"rows of width {width} are needed, (n, {width}) with n >= 1, got shape {found.shape}.")
        return found

    def _map(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = []
        for start in range(0, len(values), ENCODED):
            part = values[start : start + ENCODED]
            padded = np.pad(part, ((0, -len(part) % min(ENCODED, len(values))), (0, 0)))
            parts.append(np.asarray(_apply(self.config, self.d_in, name, self.params, padded))[: len(part)])
        return np.concatenate(parts)


@partial(jax.jit, static_argnames=("config", "d_in", "name"))
def _apply(config: SAEConfig, d_in: int, name: str, params: Any, values: jax.Array) -> jax.Array:
    functions = autoencoder(config, image_shape=(1, 1, d_in))
    if name == "encode":
        return functions.encode(params, values.reshape(-1, 1, 1, d_in))
    return functions.decode(params, values)


def train_on_vectors(
    vectors: Any,
    config: SAEConfig | None = None,
    *,
    normalise: Kind | Literal["auto"] = "auto",
    start_from: str | Path | None = None,
    seed: int = 0,
    n: int | None = None,
    d: int | None = None,
    progress: Callable[[int, Mapping[str, float]], None] = lambda step, means: None,
) -> TrainedSAE:
    """Train a sparse autoencoder on vectors of any model.

    Args:
      vectors: see :func:`saegan_jax.data.vectors.open_vectors`: a path, an array ``(n, d)``, or a function of row numbers.
      config: settings; None for those of ``start_from``.
      normalise: see :class:`saegan_jax.data.normalisation.Normalisation`; "auto" is "scale", or that of ``start_from``.
      start_from: a folder of saved weights to train on.
      seed: of the weights and the order of the data.
      n, d: number and width of the rows, of a function.
      progress: called with the step and means over the last steps.

    Raises:
      ValueError: vectors, settings or weights that do not fit each other; nothing has been trained then.
      ConfigError: the loss is no longer finite.
    """
    opened = vectors if isinstance(vectors, Vectors) else open_vectors(vectors, n=n, d=d)
    saved = None if start_from is None else read_saved(start_from)
    if config is None:
        require(saved is not None, "config", config, "give settings, or saved weights, whose settings are taken.")
        assert saved is not None
        config = saved.config
    if saved is not None:
        check_saved(saved, config, (1, 1, opened.d))
    data = vector_dataset(opened, normalise=normalise_of(saved, normalise), given=saved and saved.normalisation)
    check_foldable(config, data.normalisation.kind)
    check_batch("sae", config.batch_size, len(data.source), steps=config.steps)
    state = _trained(data, config, saved, seed, progress)
    metrics = jax.jit(partial(score, config))(state.params, jnp.asarray(data.test.image))
    return TrainedSAE(config, state.params, data.normalisation, jax.tree.map(np.asarray, metrics))


def normalise_of(saved: SavedWeights | None, normalise: Kind | Literal["auto"]) -> Kind | Literal["auto"]:
    """What vectors are normalised by for a training that begins with ``saved`` weights.

    Raises:
      ConfigError: a normalisation, and weights for inputs as they are.
    """
    if saved is None or saved.normalisation is not None:
        return normalise
    fix = f"the weights in {saved.folder} are for inputs as they are; leave it out, or use none."
    require(normalise in ("auto", "none"), "normalise", normalise, fix)
    return "none"


def examples_of(source: VectorRows) -> Examples:
    """All rows on the host, read block by block: a read has copies of what it is asked for."""
    image = np.empty((len(source), *source.image_shape), source.dtype)
    block = max(1, LOOKED_THROUGH // (4 * source.vectors.d))
    for start in range(0, len(source), block):
        index = np.arange(start, min(start + block, len(source)))
        image[index[0] : index[-1] + 1] = source.read(index).image
    return Examples(image, np.zeros(len(source), np.int32))  # type: ignore[arg-type]


def _trained(
    data: VectorDataset,
    config: SAEConfig,
    saved: SavedWeights | None,
    seed: int,
    progress: Callable[[int, Mapping[str, float]], None],
) -> Any:
    """The last state of the training."""
    source, algorithm = data.source, sae(config, image_shape=data.image_shape)
    state = jax.jit(partial(init_members, algorithm, seed=seed, n_seeds=1))(pretrained=_start(data, config, saved))
    fits = 4 * len(source) * source.vectors.d <= data_budget()
    feed = jax.tree.map(jnp.asarray, examples_of(source)) if fits else Stream(source=source)
    rest = config.steps % LONGEST_CHUNK
    for begin, end, length in ((0, config.steps - rest, LONGEST_CHUNK), (config.steps - rest, config.steps, rest)):
        if begin < end:
            with open_chunks(_phase(algorithm, config, length, end), feed, state, begin) as chunks:
                state = _run(chunks, state, range(begin + length, end + 1, length), progress)
    return state


def _run(chunks: Chunks, state: Any, steps: range, progress: Callable[[int, Mapping[str, float]], None]) -> Any:
    """The state after the last of ``steps``, the ends of chunks."""

    def report(step: int, begun: Any) -> None:
        means = {name: float(values.mean()) for name, values in chunks.collect(begun).infos.items()}
        require(np.isfinite(means["loss"]).item(), "loss", means["loss"], f"step {step}: try a lower learning_rate.")
        progress(step, means)

    pending = None
    for step in steps:
        state, begun = chunks.advance(state)
        if pending is not None:
            report(*pending)  # of the chunk before, while this one runs
        pending = step, begun
    if pending is not None:
        report(*pending)
    return state


def _start(data: VectorDataset, config: SAEConfig, saved: SavedWeights | None) -> Start:
    if saved is not None:
        return Start(params=start_params(saved, data.normalisation))
    few = data.source.read(np.arange(0, len(data.source), max(1, -(-len(data.source) // CENTER_IMAGES))))
    return Start(center=data_center(config, jnp.asarray(few.image)))


def _phase(algorithm: Algorithm, config: SAEConfig, length: int, steps: int) -> Phase:
    return Phase(
        name="sae",
        init=lambda: None,
        step=algorithm.step,
        n_seeds=1,
        steps=steps,
        batch_size=config.batch_size,
        shown=(),
        log_every=length,
        save_every=length,
        picture_every=length,
    )
