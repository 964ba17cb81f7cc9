"""Vectors as the data of a run: on the device where they fit, else streamed from where they lie."""

from functools import partial

from jax.sharding import Mesh

from saegan_jax.algorithms.base import Examples
from saegan_jax.data.registry import VECTORS
from saegan_jax.data.stream import Stream
from saegan_jax.data.vector_dataset import VectorDataset, VectorRows, vector_dataset
from saegan_jax.data.vectors import open_vectors
from saegan_jax.errors import require
from saegan_jax.runs.options import TrainSAE
from saegan_jax.runs.session import RunData, check_phase_batch, on_device
from saegan_jax.training.memory import data_budget
from saegan_jax.training.normalised import check_foldable
from saegan_jax.training.saved_weights import SavedWeights, check_saved
from saegan_jax.training.sharding import DATA
from saegan_jax.training.vectors import examples_of, normalise_of


def vector_data(options: TrainSAE, mesh: Mesh | None, *, saved: SavedWeights | None) -> RunData:
    """The vectors that the options name, for a training that begins with the ``saved`` weights where there are any.

    Raises:
      ValueError: whatever cannot work of them.
    """
    fix = "it is a share of images by class, and vectors have none; give fewer of them."
    require(options.fraction == 1, "fraction", options.fraction, fix)
    fix = "a vector has no patches; set it to 0."
    require(options.sae.patch_size == 0, "sae.patch_size", options.sae.patch_size, fix)
    for name, value in options.image_files.items():
        require(value is None, name, value, "it is for image files, and these are vectors; leave it out.")
    vectors = open_vectors(options.dataset.removeprefix(VECTORS))
    if saved is not None:
        check_saved(saved, options.sae, (1, 1, vectors.d))
    given = None if saved is None else saved.normalisation
    dataset = vector_dataset(vectors, normalise=normalise_of(saved, options.normalise), given=given)
    check_foldable(options.sae, dataset.normalisation.kind)
    shares = 1 if mesh is None else mesh.shape.get(DATA, 1)
    return RunData(
        dataset=dataset,
        image_shape=dataset.image_shape,
        n_classes=None,
        feed=partial(vectors_or_stream, dataset.source, mesh, streams=streams(dataset, options.data_on, shares)),
        check_phase=partial(check_phase_batch, len(dataset.source)),
        record={**dataset.origin.record, **({} if saved is None else {"from": saved.sha256})},
        unrecorded=("start_from",),
    )


def streams(dataset: VectorDataset, data_on: str, shares: int) -> bool:
    """Whether the rows stay where they lie."""
    nbytes = 4 * len(dataset.source) * dataset.source.vectors.d
    return data_on == "host" or (data_on == "auto" and nbytes > data_budget() * shares)


def vectors_or_stream(source: VectorRows, mesh: Mesh | None, *, streams: bool) -> Examples | Stream:
    """The training rows on the device, or a stream of them."""
    if streams:
        return Stream(source=source)
    return on_device(examples_of(source), mesh)
