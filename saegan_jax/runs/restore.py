"""Reading the result of a run folder, of any system."""

from pathlib import Path
from typing import Any, NamedTuple

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.errors import ConfigError, require
from saegan_jax.runs.options import RunOptions
from saegan_jax.runs.registry import TRAININGS, Training
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.run_folder import from_json, read_config
from saegan_jax.training.systems import abstract_system
from saegan_jax.training.writers import warn


class Restored(NamedTuple):
    """A run's result as it lies on disk.

    Attributes:
      training: its entry in the registry.
      options: of the training.
      settings: of what was trained.
      image_shape: ``(height, width, channels)``.
      algorithm: all of it, ``init`` included.
      state: of one member, or stacked.
      n_seeds: members in ``state``.
      step: of the checkpoint.
      n_classes: of the data; a conditional system knows them.
    """

    training: Training
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
    training = TRAININGS[config["script"]]
    settings, n_classes = getattr(trained, training.settings), config.get("num_classes", 0)
    algorithm, like = abstract_system(settings, image_shape=shape, n_seeds=trained.seeds, n_classes=n_classes)
    found, state = _saved(run, training.phase, like, step)
    return Restored(training, trained, settings, shape, algorithm, state, trained.seeds, found, n_classes)


def autoencoder_of(restored: Restored, state: Any) -> tuple[SAEConfig, Any] | None:
    """Settings and parameters of the sparse autoencoder of images of a run; None where it leaves none.

    Args:
      restored: the run.
      state: its state, of one member or stacked; the parameters are stacked likewise.
    """
    found = restored.training.autoencoder
    return None if found is None else found(restored.settings, state)


def abstract_phases(run: Path) -> dict[str, Any]:
    """Shapes of the last state of every phase that a run has checkpoints of, in the order in which they are trained.

    Raises:
      ConfigError: no run, or one of another version.
    """
    config, trained, shape = _trained(run, None)
    training = TRAININGS[config["script"]]
    settings = getattr(trained, training.settings)
    by_phase = {"sae": getattr(settings, "sae", settings), training.phase: settings}
    classes = config.get("num_classes", 0)
    return {
        phase: abstract_system(value, image_shape=shape, n_seeds=trained.seeds, n_classes=classes)[1]
        for phase, value in by_phase.items()
        if (run / "checkpoints" / phase).is_dir()
    }


def check_checkpoint(run: Path, phase: str, step: int) -> str:
    """Read the checkpoint ``step`` of any phase of a run, its checksum included.

    Returns:
      Why it is damaged; empty where it is not.

    Raises:
      ConfigError: no run, or no checkpoint, that this version can read.
    """
    phases = abstract_phases(run)
    fix = f"it has checkpoints of a phase {phase!r}, which this version does not know."
    require(phase in phases, "run", str(run), fix)
    with Checkpoints(run / "checkpoints" / phase, read_only=True) as checkpoints:
        try:
            checkpoints.restore(phases[phase], step=step)
        except ConfigError:
            if not checkpoints.damaged:
                raise
        return "; ".join(reason for _, reason in checkpoints.damaged)


def _trained(run: Path, member: int | None) -> tuple[dict[str, Any], RunOptions, tuple[int, int, int]]:
    """What a run's config.json tells: all of it, the options and the images' shape."""
    config = read_config(run)
    try:
        trained = from_json(TRAININGS[config["script"]].options, config["options"])
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
