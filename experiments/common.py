"""What the training scripts share: opening a run, its pictures, its scores and its closing table."""

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.config import (
    RunOptions,
    StreamOptions,
    TrainCycleGAN,
    TrainEnergy,
    TrainGAN,
    TrainSAE,
    TrainSAEGAN,
    TrainVAE,
)
from saegan_jax import __version__
from saegan_jax.algorithms.base import Algorithm, Examples
from saegan_jax.algorithms.registry import build
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.data import Dataset, load, share
from saegan_jax.data.sources import InMemory, OnDisk
from saegan_jax.data.stream import Stream
from saegan_jax.errors import ConfigError, require
from saegan_jax.evaluation.features import FeatureNetwork, cache_folder, load_feature_network
from saegan_jax.evaluation.sample_evaluator import sample_evaluator
from saegan_jax.evaluation.sample_quality import sample_quality
from saegan_jax.files import write_json
from saegan_jax.metrics import SAEMetrics
from saegan_jax.report import dictionary_picture, image_grid, training_curves
from saegan_jax.stats import over_seeds
from saegan_jax.training.callbacks import Callback, Scores
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.finite import NonFiniteError
from saegan_jax.training.loop import train
from saegan_jax.training.memory import data_budget
from saegan_jax.training.phase import Phase, check_batch, check_schedule
from saegan_jax.training.run_folder import check_folder, from_json, lock_run, open_folder, read_config, to_json
from saegan_jax.training.stop import StoppedError
from saegan_jax.training.sweep import score
from saegan_jax.training.systems import abstract_system, draw, gan_members_per_vmap
from saegan_jax.training.writers import Display, MetricsWriter, read_alarms, read_metrics, warn

# Where things lie here, not what is trained.
LOCAL = ("out", "resume", "manual_dir", "data_dir", "data_on", "preset", "recipe")
SAMPLE_SEED = 0
GRID = 64


def keep_compiled() -> None:
    """Keep compiled programs between runs, in ``xla`` beside the feature networks, unless JAX was told where to or not to."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        # The many small programs of a job take as long together as its two large ones.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def main(script: Callable[[], None]) -> None:
    """Run a script; what a person can mend is told in one paragraph, not in a traceback."""
    keep_compiled()
    try:
        script()
    except (ValueError, OSError, NonFiniteError) as error:
        # As Text: in a string rich would take a name in brackets for markup, and leave it out.
        Console(stderr=True).print(Text.assemble(("error:", "red"), f" {error}"), soft_wrap=True)
        sys.exit(2)
    except StoppedError as stop:
        Console(stderr=True).print(Text(f"{stop} Add --resume to the same command to continue."), soft_wrap=True)
        sys.exit(130)
    except KeyboardInterrupt:
        Console(stderr=True).print(Text("Interrupted."))
        sys.exit(130)


# What a script trains: its options, the field of the model's settings, and the phase whose state is the result.
SYSTEMS: dict[str, tuple[type[RunOptions], str, str]] = {
    "sae": (TrainSAE, "sae", "sae"),
    "gan": (TrainGAN, "gan", "gan"),
    "saegan": (TrainSAEGAN, "model", "gan"),
    "vae": (TrainVAE, "vae", "vae"),
    "energy": (TrainEnergy, "energy", "gan"),
    "cyclegan": (TrainCycleGAN, "model", "cyclegan"),
}


class Restored(NamedTuple):
    """A run's result as it lies on disk.

    Attributes:
      options: of the training.
      settings: of what was trained.
      image_shape: ``(height, width, channels)``.
      algorithm: all of it, ``init`` included.
      state: of one member, or stacked.
      n_seeds: members in ``state``.
      step: of the checkpoint.
      n_classes: of the data; a conditional system knows them.
    """

    options: Any
    settings: Any
    image_shape: tuple[int, int, int]
    algorithm: Algorithm
    state: Any
    n_seeds: int
    step: int
    n_classes: int


def restore_run(run: Path, *, step: int | None = None, member: int | None = None) -> Restored:
    """Read a run folder's newest complete checkpoint, or that of ``step``; its data set is not needed.

    Raises:
      ConfigError: no run, a run of another version, no such ``member`` or step, or no checkpoint that can be read.
    """
    config, trained, shape = _trained(run, member)
    _, field, phase = SYSTEMS[config["script"]]
    settings, n_classes = getattr(trained, field), config.get("num_classes", 0)
    algorithm, like = abstract_system(settings, image_shape=shape, n_seeds=trained.seeds, n_classes=n_classes)
    found, state = _saved(run, phase, like, step)
    return Restored(trained, settings, shape, algorithm, state, trained.seeds, found, n_classes)


def _trained(run: Path, member: int | None) -> tuple[dict[str, Any], RunOptions, tuple[int, int, int]]:
    """What a run's config.json tells: all of it, the options and the images' shape."""
    config = read_config(run)
    try:
        trained = from_json(SYSTEMS[config["script"]][0], config["options"])
        height, width, channels = config["image_shape"]
    except (KeyError, TypeError, AttributeError) as error:
        fix = f"its config.json is not that of a run that this version can read ({type(error).__name__}: {error})."
        raise ConfigError("run", str(run), fix) from None
    if member is not None:
        require(0 <= member < trained.seeds, "member", member, f"the run has {trained.seeds}, counted from 0.")
    return config, trained, (height, width, channels)


def _saved(run: Path, phase: str, like: Any, step: int | None) -> tuple[int, Any]:
    """The step and state of the newest checkpoint that can be read, or of ``step``."""
    with Checkpoints(run / "checkpoints" / phase, read_only=True) as checkpoints:
        restored = checkpoints.restore(like, step=step)
        reasons = "; ".join(f"step {step}: {reason}" for step, reason in checkpoints.damaged)
    if restored is None:
        raise ConfigError("run", str(run), "it has no checkpoint: nothing has been saved yet.")
    if reasons:
        warn(f"Damaged checkpoints were skipped ({reasons}).")
    return restored


@dataclass
class Run:
    """An open run folder with its data, on the device or streamed to it."""

    options: RunOptions
    folder: Path
    config: dict[str, Any]
    dataset: Dataset
    feed: Examples | Stream
    writer: MetricsWriter
    display: Display

    @property
    def n_seeds(self) -> int:
        """Members trained at once."""
        return self.options.seeds

    @property
    def data(self) -> Examples:
        """The training images and labels on the device, where they are."""
        assert isinstance(self.feed, Examples), "only the scripts that have --data-on stream"
        return self.feed

    def some_images(self, most: int) -> jax.Array:
        """At most ``most`` training images, evenly taken, on the device: ``(n, height, width, channels)`` uint8."""
        if isinstance(self.feed, Examples):
            return self.feed.image[:: -(-len(self.feed.image) // most)]
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
    ) -> Any:
        """Train one phase (see :class:`Phase`) with the steps and batch size of ``settings``."""
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
            members_per_vmap=gan_members_per_vmap(settings),
        )
        return train(phase, self.feed, folder=self.folder, config=self.config, writer=self.writer, display=self.display)

    def sample_evaluator(self, algorithm: Algorithm) -> Callable[[int, Any], Scores] | None:
        """Scores of a few samples on the way, for curves and alarms; None where nothing is to be scored."""
        if not self.options.evaluate:
            return None
        self.display.stop()  # rich before 14 allows one live display at a time
        with self.display.console.status("training the feature network, or opening the cached one"):
            network = load_feature_network(self.dataset)
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


def open_run(
    stack: ExitStack,
    options: RunOptions,
    *,
    name: str,
    model: Any,
    phases: dict[str, Any],
) -> Run:
    """Check everything that can be checked, then open the run folder.

    Args:
      stack: closes the writers.
      options: of the script.
      name: the default folder is ``runs/<name>``.
      model: settings of what is trained.
      phases: settings of each training phase, with ``steps`` and ``batch_size``.

    Raises:
      ValueError: whatever cannot work; nothing has been compiled or written then.
    """
    folder = options.out or Path("runs") / name
    settings = {key: value for key, value in to_json_options(options).items() if key not in LOCAL}
    for phase, phase_settings in phases.items():
        check_schedule(
            phase,
            steps=phase_settings.steps,
            log_every=options.log_every,
            save_every=options.save_every,
            picture_every=options.picture_every,
        )
    data_on = options.data_on if isinstance(options, StreamOptions) else "device"
    in_memory = {"device": None, "auto": data_budget(), "host": 0}[data_on]
    dataset = load(options.dataset, manual_dir=options.manual_dir, data_dir=options.data_dir, in_memory=in_memory)
    examples = _examples(dataset, options.fraction)
    for phase, phase_settings in phases.items():
        check_batch(phase, phase_settings.batch_size, len(examples), steps=phase_settings.steps)
    shape = dataset.image_shape
    require(
        shape[2] in (1, 3), "dataset", dataset.name, f"its images have {shape[2]} channels, and pictures need 1 or 3."
    )
    # Finds networks that cannot make such images.
    build(model, image_shape=shape, n_classes=dataset.num_classes)
    config = {
        "script": name.split("-")[0],
        "version": __version__,
        "image_shape": list(shape),
        "num_classes": dataset.num_classes,
        "options": settings,
    }
    check_folder(folder, config, resume=options.resume)
    open_folder(folder, config)
    stack.enter_context(lock_run(folder))
    writer, display = MetricsWriter(folder), Display()
    stack.callback(writer.close)
    stack.callback(display.stop)
    feed: Examples | Stream
    if isinstance(examples, InMemory) and data_on != "host":
        feed = Examples(jnp.asarray(examples.split.image), jnp.asarray(examples.split.label))
    else:
        feed = Stream(source=examples)
    return Run(options, folder, config, dataset, feed, writer, display)


def _examples(dataset: Dataset, fraction: float) -> InMemory | OnDisk:
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


def score_sae(run: Run, config: SAEConfig, params: Any, *, active_only: bool = False) -> SAEMetrics:
    """Metrics of every member on the test images; each field has a leading axis of members."""
    images = jnp.asarray(run.dataset.test.image)
    members = params if run.n_seeds > 1 else jax.tree.map(lambda leaf: leaf[None], params)
    return jax.tree.map(
        np.asarray, jax.lax.map(jax.jit(lambda one: score(config, one, images, active_only=active_only)), members)
    )


def sae_rows(run: Run, config: SAEConfig, params: Any) -> dict[str, dict[str, Any]]:
    """Draw the dictionary and score the autoencoder: rows of the closing table."""
    metrics = score_sae(run, config, params)
    weights = params["params"]
    W_dec = np.asarray(np.swapaxes(weights["W_enc"], -1, -2) if config.tied else weights["W_dec"])
    first = W_dec if run.n_seeds == 1 else W_dec[0]
    shape = run.dataset.image_shape
    atom = (config.patch_size, config.patch_size, shape[2]) if config.patch_size else shape
    dictionary_picture(first, atom, run.folder / "dictionary.png", density=metrics.feature_density[0])
    threshold = f"codes > {config.active_above:g}"
    positions = autoencoder(config, image_shape=shape).positions
    places = "".join(f"{n} x " for n in positions)
    rows = {"SAE FVU": row(metrics.fvu, "share of variance", "test images; 0 perfect, 1 the mean image")}
    if config.active_above > 0:  # codes that L0 does not count have their part in the reconstruction
        strict = score_sae(run, config, params, active_only=True)
        rows["SAE FVU, active"] = row(strict.fvu, "share of variance", f"the same from {threshold} alone")
    return rows | {
        "SAE L0": row(metrics.l0, f"of {places}{config.d_sae} units", threshold),
        "SAE dead units": row(metrics.dead_fraction, "share", f"never {threshold}"),
        "SAE Hoyer": row(metrics.hoyer, "0 dense, 1 one-hot", "mean over test images"),
    }


def member_scores(images: np.ndarray, measure: Callable[[np.ndarray], Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``measure`` of every member's images; of one that has failed, whose images are not finite, NaN everywhere."""
    failed = [not np.isfinite(member).all() for member in images]
    found = {i: measure(images[i]) for i in range(len(images)) if not failed[i] or all(failed)}
    names = next(iter(found.values()))
    return [found.get(i, dict.fromkeys(names, math.nan)) for i in range(len(images))]


def sample_rows(run: Run, algorithm: Algorithm, state: Any) -> dict[str, dict[str, Any]]:
    """Score samples of every member: rows of the closing table."""
    if not run.options.evaluate:
        return {}
    run.display.stop()  # rich before 14 allows one live display at a time
    with run.display.console.status("scoring samples"):
        network = load_feature_network(run.dataset, seed=0)
        # Settings chosen by the first network's verdict may suit only it.
        second = load_feature_network(run.dataset, seed=1)
        n = len(run.dataset.test.label)
        images = draw(algorithm, state, seed=SAMPLE_SEED + 1, n=n, n_seeds=run.n_seeds)
        scores = member_scores(
            images, lambda member: sample_quality(network, member, run.dataset, fraction=run.options.fraction)
        )
        checks = member_scores(images, lambda member: sample_quality(second, member, run.dataset, pairs=False))
    first = next(s for s in scores if not math.isnan(s["frechet"]))
    compared = f"{first['samples']} samples; real against real {first['floor']:.3g}"

    def features(network: FeatureNetwork) -> str:
        return f"classifier {network.hash[:8]}, accuracy {network.accuracy:.4f}"

    def beside(name: str, unit: str, note: str) -> dict[str, Any]:
        floor = first[f"{name}_floor"]
        return row([s[name] for s in scores], unit, f"{note}real {floor:.3g}", floor=floor)

    return {
        "Frechet distance": row([s["frechet"] for s in scores], "squared features", compared, floor=first["floor"]),
        "Frechet / floor": row([s["ratio"] for s in scores], "ratio", features(network)),
        "Frechet / floor, second network": row([s["ratio"] for s in checks], "ratio", features(second)),
        "class balance KL": beside("class_balance_kl", "nats", ""),
        "kernel distance": beside("kernel", "cubic kernel", "may be below 0; "),
        "precision": beside("precision", "share of samples", "near real images; "),
        "recall": beside("recall", "share of real", "near samples; "),
        "density": beside("density", "ratio", "real points' balls around a sample; "),
        "coverage": beside("coverage", "share of real", "with a sample near; "),
        "memorisation": beside("memorisation", "probability", "nearer to training images than test images; "),
    }


def row(values: Any, unit: str, note: str, floor: float | None = None) -> dict[str, Any]:
    """One row of the closing table: a value for every member."""
    return {"values": [float(v) for v in np.atleast_1d(np.asarray(values))], "unit": unit, "note": note, "floor": floor}


def finish(run: Run, rows: dict[str, dict[str, Any]]) -> None:
    """Curves, summary.json and the closing table, with the alarms of the training and, of several seeds, every one."""
    run.display.stop()
    metrics, alarms = read_metrics(run.folder), read_alarms(run.folder)
    training_curves(metrics, run.folder / "curves.png", title=run.folder.name)
    waits = [r["data_wait"] for r in metrics if "data_wait" in r]
    if waits:
        note = "of the device, for data from the host; mean over logging intervals"
        rows = rows | {"waiting": row(float(np.mean(waits)), "share of the time", note)}
    evaluations = [np.atleast_1d(r["frechet"]) for r in metrics if r["phase"] == "gan-scores"]
    if evaluations:
        n = len(evaluations)
        rows = rows | {
            "first evaluation": row(
                evaluations[0], "squared features", "Frechet distance of few samples to validation images"
            ),
            "best evaluation": row(
                np.fmin.reduce(evaluations), "squared features", f"the same, the least of {n}; not the result"
            ),
            "last evaluation": row(evaluations[-1], "squared features", "the same, of the final weights"),
        }
    if any(r["phase"] == "gan" for r in metrics):
        counts = [sum(e["state"] == "begins" and e["member"] == m for e in alarms) for m in range(run.n_seeds)]
        kinds = ", ".join(sorted({e["kind"] for e in alarms if e["member"] is not None})) or "none began"
        rows = rows | {"alarms": row(counts, "count", kinds)}
    write_json(run.folder / "summary.json", {"device": str(jax.devices()[0]), "rows": rows, "alarms": alarms})
    several = run.n_seeds > 1
    table = Table(title=Text(str(run.folder)), title_justify="left")
    table.add_column("measure")
    table.add_column(f"mean of {run.n_seeds} seeds" if several else "value", justify="right")
    if several:
        table.add_column("95 % interval", justify="right")
        table.add_column("every seed")
    table.add_column("unit")
    table.add_column("beside")
    for name, content in rows.items():
        found = over_seeds(content["values"])
        spread = []
        if several:
            interval = "" if found.low is None else f"{found.low:.3g} .. {found.high:.3g}"
            spread = [interval, " ".join(f"{v:.3g}" for v in content["values"])]
        table.add_row(name, f"{found.mean:.3g}", *spread, content["unit"], content["note"])
    run.display.console.print(table)
