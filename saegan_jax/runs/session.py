"""An open run: its folder, data, writers, and the training of its phases."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from saegan_jax import __version__, noise, signals
from saegan_jax.algorithms.base import Algorithm, Examples
from saegan_jax.algorithms.registry import system_of
from saegan_jax.data import Dataset, load, share
from saegan_jax.data.sources import InMemory, OnDisk
from saegan_jax.data.stream import Stream
from saegan_jax.errors import require
from saegan_jax.evaluation.features import load_feature_network
from saegan_jax.evaluation.sample_evaluator import sample_evaluator
from saegan_jax.evaluation.sample_quality import check_scorable
from saegan_jax.files import write_json
from saegan_jax.report import image_grid
from saegan_jax.runs.checks import check_memory
from saegan_jax.runs.options import RunOptions, StreamOptions, TrainOptions
from saegan_jax.runs.plan import show_plan
from saegan_jax.training.busy import busy
from saegan_jax.training.callbacks import Callback, Scores
from saegan_jax.training.loop import train
from saegan_jax.training.memory import data_budget
from saegan_jax.training.phase import Phase, check_batch, check_schedule
from saegan_jax.training.run_folder import Longer, check_folder, lock_run, open_folder, read_config, tidy, to_json
from saegan_jax.training.sharding import DATA, open_mesh
from saegan_jax.training.systems import draw, gan_members_per_vmap
from saegan_jax.training.writers import Display, MetricsWriter

# Where things lie here, not what is trained.
LOCAL = ("out", "resume", "manual_dir", "data_dir", "data_on", "preset", "recipe", "mesh", "plan", "roll_back")
SAMPLE_SEED = 0
GRID = 64
JUDGED = 2000  # images whose mean is what an autoencoder must beat


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What a run trains on, loaded and not yet on the device.

    Attributes:
      dataset: that its results are scored on; None for data that are made on the fly.
      image_shape: ``(height, width, channels)``.
      n_classes: of its labels; None where there are none.
      feed: ``feed()``, what training takes: examples on the device, a stream of them, or what batches are drawn from.
      check_phase: ``check_phase(name, settings)`` raises :class:`saegan_jax.errors.ConfigError` for a phase that cannot be
        trained on them.
      record: what else of them belongs into ``config.json``, as JSON values.
      unrecorded: options that do not belong there.
    """

    dataset: Any
    image_shape: tuple[int, int, int]
    n_classes: int | None
    feed: Callable[[], Any]
    check_phase: Callable[[str, Any], None]
    record: Mapping[str, Any] = field(default_factory=dict)
    unrecorded: tuple[str, ...] = ()


@dataclass
class Run:
    """An open run folder with its data, on the device or streamed to it."""

    options: RunOptions
    folder: Path
    config: dict[str, Any]
    dataset: Any
    feed: Any
    writer: MetricsWriter
    display: Display
    mesh: Mesh | None = None

    @property
    def n_seeds(self) -> int:
        """Members trained at once."""
        return self.options.seeds

    @property
    def data(self) -> Examples:
        """The training images and labels, where they do not stream."""
        assert isinstance(self.feed, Examples), "only the scripts that have --data-on stream"
        return self.feed

    def some_images(self, most: int) -> jax.Array:
        """At most ``most`` training images, evenly taken, on the device: ``(n, height, width, channels)`` uint8."""
        if isinstance(self.feed, Examples):
            return jnp.asarray(self.feed.image[:: -(-len(self.feed.image) // most)])
        n = len(self.feed.source)
        return jnp.asarray(self.feed.source.read(np.arange(0, n, -(-n // most))).image)

    def train(
        self,
        name: str,
        step: Callable[..., Any],
        init: Callable[[], Any],
        settings: Any,
        *,
        shown: tuple[str, ...],
        picture: Callable[[int, Any], None] | None = None,
        score: Callable[[int, Any], Scores] | None = None,
        **extra: Any,
    ) -> Any:
        """Train one phase (see :class:`Phase`) with the steps and batch size of ``settings``; ``extra`` are further fields."""
        if "reconstruction" in shown and "trivial" not in extra:
            extra["trivial"] = {"reconstruction": mean_image_error(self.some_images(JUDGED))}
        phase = Phase(
            name=name,
            init=init,
            step=step,
            n_seeds=self.n_seeds,
            steps=settings.steps,
            batch_size=settings.batch_size,
            log_every=self.options.log_every,
            save_every=self.options.save_every,
            picture_every=self.options.picture_every,
            shown=shown,
            score=score,
            callbacks=() if picture is None else (Callback(on_evaluation=picture),),
            mesh=self.mesh,
            roll_back=self.options.roll_back if isinstance(self.options, TrainOptions) else 0,
            **({"members_per_vmap": gan_members_per_vmap(settings)} | extra),
        )
        return train(phase, self.feed, folder=self.folder, config=self.config, writer=self.writer, display=self.display)

    def sample_evaluator(self, algorithm: Algorithm) -> Callable[[int, Any], Scores] | None:
        """Scores of a few samples on the way, for curves and alarms; None where nothing is to be scored."""
        if not self.options.evaluate:
            return None
        self.display.stop()  # rich before 14 allows one live display at a time
        with busy(self.display.console, "training the feature network, or opening the cached one"):
            network = load_feature_network(self.dataset, allow_random=True)
        return sample_evaluator(network, self.dataset, algorithm, n_seeds=self.n_seeds, seed=SAMPLE_SEED)

    def sample_pictures(self, name: str, algorithm: Algorithm) -> Callable[[int, Any], None]:
        """A picture of every member's samples, always of the same latents, under ``samples/``."""
        count = GRID if self.n_seeds == 1 else 16

        def picture(step: int, state: Any) -> None:
            images = draw(algorithm, state, seed=SAMPLE_SEED, n=count, n_seeds=self.n_seeds)
            images = np.nan_to_num(images, nan=0.5)  # a member that has failed is grey, and the others are drawn
            columns = int(GRID**0.5) if self.n_seeds == 1 else count  # one row a member
            path = self.folder / "samples" / f"{name}-{step:07d}.png"
            image_grid(images.reshape(-1, *images.shape[2:]), path, columns=columns)

        return picture


def labelled_images(options: RunOptions, mesh: Mesh | None) -> RunData:
    """The training images of the data set that the options name, and their labels."""
    data_on = options.data_on if isinstance(options, StreamOptions) else "device"
    shares = 1 if mesh is None else mesh.shape.get(DATA, 1)
    in_memory = {"device": None, "auto": data_budget() * shares, "host": 0}[data_on]
    dataset = load(
        options.dataset,
        manual_dir=options.manual_dir,
        data_dir=options.data_dir,
        in_memory=in_memory,
        **options.image_files,
    )
    examples = training_examples(dataset, options.fraction)
    channels = dataset.image_shape[2]
    fix = f"its images have {channels} channels, and pictures need 1, 3 or 4."
    require(channels in (1, 3, 4), "dataset", dataset.name, fix)
    origin = dataset.origin
    return RunData(
        dataset=dataset,
        image_shape=dataset.image_shape,
        n_classes=dataset.num_classes if dataset.labelled else None,
        feed=partial(examples_or_stream, examples, mesh, streamed=data_on == "host"),
        check_phase=partial(check_phase_batch, len(examples)),
        record={} if origin is None else origin.record,
    )


def check_phase_batch(n_examples: int, name: str, settings: Any) -> None:
    """:func:`check_batch` of a phase that takes its batches from ``n_examples``."""
    check_batch(name, settings.batch_size, n_examples, steps=settings.steps)


def examples_or_stream(examples: InMemory | OnDisk, mesh: Mesh | None, *, streamed: bool) -> Examples | Stream:
    """The examples on the device, or, where they are ``streamed`` or on disk, a stream of them."""
    if isinstance(examples, InMemory) and not streamed:
        split: Any = examples.split
        return on_device(Examples(split.image, split.label), mesh)
    return Stream(source=examples)


def on_device(data: Any, mesh: Mesh | None) -> Any:
    """Data on the default device; for a mesh, on the host, from where each training spreads them."""
    return jax.tree.map(jnp.asarray if mesh is None else np.asarray, data)


def holds_run(folder: Path) -> bool:
    """Whether a run was begun in ``folder``: a study, whose command is given again to go on, resumes it then."""
    return (folder / "config.json").exists()


def mean_image_error(images: jax.Array | np.ndarray) -> float:
    """1/2 squared error of the mean, summed over pixels, mean over ``(n, height, width, channels)``, uint8 or float32."""
    values = np.asarray(images, np.float32)
    return 0.5 * float((values / 255 if images.dtype == np.uint8 else values).var(axis=0).sum())


def open_run(
    stack: ExitStack,
    options: RunOptions,
    *,
    name: str,
    model: Any,
    phases: Mapping[str, Any],
    data: Callable[[RunOptions, Mesh | None], RunData] = labelled_images,
    scores_samples: bool = True,
) -> Run:
    """Check everything that can be checked, then open the run folder.

    With ``options.plan`` it is printed instead, and the process ends.

    A folder without a run is begun, and one with this run is continued if ``options.resume``; anything else is refused.

    Args:
      stack: closes the writers.
      options: of the script.
      name: the default folder is ``runs/<name>``; its first word names the training.
      model: settings of what is trained.
      phases: settings of each training phase, with ``steps`` and ``batch_size``.
      data: ``data(options, mesh)``, what is trained on; called once the intervals are known to fit.
      scores_samples: the run ends with scores of samples, unless it is not to be evaluated.

    Raises:
      ValueError: whatever cannot work; nothing has been compiled or written then.
    """
    folder = options.out or Path("runs") / name
    intervals = {key: getattr(options, key) for key in ("log_every", "save_every", "picture_every")}
    for phase, settings in phases.items():
        check_schedule(phase, steps=settings.steps, **intervals)
    batch_sizes = {phase: settings.batch_size for phase, settings in phases.items()}
    if isinstance(options, TrainOptions) and options.plan is not None:
        show_plan(options, partial(data, options, None), model=model, phases=phases)
        sys.exit()
    mesh = open_mesh(options.mesh, n_seeds=options.seeds, batch_sizes=batch_sizes)
    found = data(options, mesh)
    if scores_samples and options.evaluate:
        check_scorable(found.dataset)
    for phase, settings in phases.items():
        found.check_phase(phase, settings)
    # Also finds networks that cannot make such images.
    largest = max(batch_sizes.values())
    sizes: dict[str, int] = {"n_seeds": options.seeds, "batch_size": largest, "n_classes": found.n_classes or 0}
    check_memory(model, image_shape=found.image_shape, mesh=mesh, **sizes)
    classes = {} if found.n_classes is None else {"num_classes": found.n_classes}
    config = {
        "script": name.split("-")[0],
        "version": __version__,
        "image_shape": list(found.image_shape),
        **classes,
        **found.record,
        "options": recorded_options(options, found.unrecorded),
    }
    longer = may_be_longer(options, model, phases)
    check_folder(folder, config, resume=options.resume, longer=longer)
    open_folder(folder, config)
    signals.continue_with("--resume")
    noise.log_to(folder / "log.txt")
    stack.enter_context(lock_run(folder))
    # Again: another process may have begun another run there in the meantime.
    if check_folder(folder, config, resume=True, longer=longer):
        (folder / "summary.json").unlink(missing_ok=True)  # its scores are those of the shorter run
        write_json(folder / "config.json", config)
        stack.enter_context(lock_run(folder))  # the lock was on the file before
    tidy(folder)
    writer, display = MetricsWriter(folder), Display()
    say_origin(found.dataset, folder, display)
    stack.callback(writer.close)
    stack.callback(display.stop)
    return Run(options, folder, config, found.dataset, found.feed(), writer, display, mesh)


def say_origin(dataset: Any, folder: Path, display: Display) -> None:
    """Of a user's own files: say what was done to them, and keep which are in which split, as ``data.json``."""
    origin = getattr(dataset, "origin", None)
    if origin is None:
        return
    write_json(folder / "data.json", dict(origin.details))
    for note in origin.notes:
        display.console.print(note, markup=False, highlight=False, soft_wrap=True)


def may_be_longer(options: RunOptions, model: Any, phases: Mapping[str, Any]) -> Longer | None:
    """Whether a run of fewer steps in the last phase may go on with these options; None where its steps are no option."""
    *_, last = phases.values()
    path = path_of(options, last)
    if path is None:
        return None
    return Longer(f"options.{path}.steps", system_of(model).length_matters(model))


def path_of(owner: Any, part: Any) -> str | None:
    """Where ``part`` is in the dataclass ``owner``, such as ``model.gan``; None where it is not."""
    for field_ in dataclasses.fields(owner):
        value = getattr(owner, field_.name)
        if value is part:
            return field_.name
        inner = path_of(value, part) if dataclasses.is_dataclass(value) else None
        if inner is not None:
            return f"{field_.name}.{inner}"
    return None


def recorded_options(options: RunOptions, unrecorded: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options that a run depends on, as JSON values: without those of :data:`LOCAL` and the ``unrecorded`` ones."""
    local: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(options) if f.name in (*LOCAL, *unrecorded)}
    return {key: value for key, value in to_json(dataclasses.replace(options, **local)).items() if key not in local}


def require_same_run(options: RunOptions, folder: Path, unrecorded: tuple[str, ...] = ()) -> None:
    """The run in ``folder`` is that of ``options``, but for those of :data:`LOCAL` and the ``unrecorded`` ones.

    Raises:
      ConfigError: it has other settings.
    """
    found, wanted = read_config(folder)["options"], recorded_options(options, unrecorded)
    different = sorted(key for key in wanted if wanted[key] != found.get(key))
    require(
        not different,
        "out",
        str(folder),
        f"it holds a run with other settings ({', '.join(different)}). Name another --out, or move it away.",
    )


def training_examples(dataset: Dataset, fraction: float) -> InMemory | OnDisk:
    """The share of the training images that is trained on.

    Raises:
      ConfigError: a share of images of which only a sample is in memory: scores compare with those trained on.
    """
    source = dataset.source
    if source is None:
        return InMemory(share(dataset.train, fraction))
    if fraction == 1:
        return source
    fix = "only a sample of these images is in memory, and scores need those trained on; use 1, or --data-on device."
    require(len(dataset.train.label) == len(source), "fraction", fraction, fix)
    return source.share(fraction)


def to_json_options(options: RunOptions) -> dict[str, Any]:
    """All options as JSON values; paths as text."""
    paths = {f.name: str(getattr(options, f.name)) for f in dataclasses.fields(options) if f.name in LOCAL}
    return to_json(dataclasses.replace(options, out=None, manual_dir=None, data_dir=None)) | paths
