"""Numbers that are not finite in data, gradients, parameters and statistics: when they are noticed, and what is kept."""

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from saegan_jax.algorithms.base import Batch, Examples
from saegan_jax.data.domains import load_domains
from saegan_jax.data.registry import load
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.reliability.kills import FailedError, scratch
from saegan_jax.runs.reliability.poison import NEVER, PLACES, poison, poisoned, spoil
from saegan_jax.runs.reliability.processes import tiny, train
from saegan_jax.runs.restore import Restored, restore_run
from saegan_jax.runs.train.cyclegan import TwoDomains, some_images, two_batches
from saegan_jax.training import loop
from saegan_jax.training.checkpoint import Checkpoints, checksum
from saegan_jax.training.finite import NonFiniteError
from saegan_jax.training.phase import Phase
from saegan_jax.training.writers import Display, MetricsWriter, read_alarms, read_metrics

VALUES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
STEPS, EVERY, BATCH = 40, 5, 8
MEMBERS, FAILING = 3, 1
LEAF = re.compile(r"\.\w+[.\[]")


@dataclass(frozen=True, kw_only=True)
class Injection:
    """One number that is not finite, in one training.

    Attributes:
      system: that is trained.
      place: see :data:`saegan_jax.runs.reliability.poison.PLACES`; with several members, "a member's" one.
      value: as text.
      step: in which it was put there, counted from 1.
      noticed: the step of the message or of the alarm.
      fault: what was wrong; empty where nothing was.
    """

    system: str
    place: str
    value: str
    step: int
    noticed: int | None
    fault: str


@dataclass(frozen=True)
class Subject:
    """A trained tiny system to go on with: as it lies on disk, its data on the device, and how a batch is drawn."""

    system: str
    restored: Restored
    data: Any
    draw: Callable[[jax.Array, Any], Any]


def subject(system: str, folder: Path, *, seeds: int) -> Subject:
    """Train ``system`` for a moment and read it back.

    Raises:
      FailedError: the training did not end well.
    """
    run = folder / f"{system}-{seeds}"
    ended = train(system, tiny(system, "--seeds", seeds, "--out", run), run.with_suffix(".txt"))
    if ended.code != 0:
        raise FailedError(f"{system} ended with {ended.code}: {ended.text[-2000:]}")
    restored = restore_run(run)
    if restored.algorithm.translate is not None:
        domains = load_domains(restored.options.domains)
        data: Any = TwoDomains(jnp.asarray(domains.a.train.image), jnp.asarray(domains.b.train.image))
        return Subject(system, restored, data, two_batches(BATCH))
    split = load(restored.options.dataset).train
    return Subject(system, restored, Examples(jnp.asarray(split.image), jnp.asarray(split.label)), labelled_batch)


def labelled_batch(key: jax.Array, data: Examples) -> Batch:
    """Images at random, and the first labels: what they are of does not matter here."""
    return Batch(some_images(key, data.image, n=BATCH), data.label[:BATCH])


def poisoned_batch(one: Subject, key: jax.Array, data: Any, given: Any) -> Any:
    """A batch, and what :func:`saegan_jax.runs.reliability.poison.poisoned` steps take beside it."""
    return one.draw(key, data), given


def go_on(one: Subject, folder: Path, state: Any, given: Any) -> tuple[Any, NonFiniteError | None]:
    """Train on from ``state`` as step 0, poisoned; the last state, or what ended the training."""
    phase = Phase(
        name=one.system,
        init=partial(jax.tree.map, jnp.copy, state),
        step=poisoned(one.restored.algorithm.step),
        n_seeds=one.restored.n_seeds,
        steps=STEPS,
        batch_size=BATCH,
        log_every=EVERY,
        save_every=2 * EVERY,
        picture_every=STEPS,
        shown=(),
        draw=lambda key, both: poisoned_batch(one, key, *both),
    )
    folder.mkdir()
    writer, display = MetricsWriter(folder), Display(Console(file=io.StringIO()))
    parts: dict[str, Any] = {"folder": folder, "config": {}, "writer": writer, "display": display}
    try:
        both: Any = (one.data, given)
        return loop.train(phase, both, **parts), None
    except NonFiniteError as error:
        return None, error
    finally:
        writer.close()


def from_step_0(state: Any) -> Any:
    """``state`` as a training begins with it."""
    return state.replace(step=jnp.zeros_like(state.step))


def inject(one: Subject, folder: Path, *, place: str, leaf: int, value: str, step: int) -> Injection:
    """Put ``value`` into one training of a single member, whose steps are counted from 0, at ``step``."""
    _, error = go_on(one, folder, from_step_0(one.restored.state), poison(step, place, leaf, VALUES[value]))
    end = (step // EVERY + 1) * EVERY  # of the logging interval in which it happens
    named = re.search(r"at step (\d+)", str(error)) if error is not None else None
    noticed = None if named is None else int(named[1])
    rows = [row["step"] for row in read_metrics(folder)]
    with Checkpoints(folder / "checkpoints" / one.system) as checkpoints:
        restored = checkpoints.restore(one.restored.state)
    kept = 0 if restored is None else restored[0]
    sound = restored is None or all(
        np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(restored[1]) if jnp.issubdtype(x.dtype, jnp.floating)
    )
    problems = {
        "it was not noticed": error is None,
        f"noticed at step {noticed}, in no interval that ends at {end}": noticed is None or not step < noticed <= end,
        "no leaf is named": LEAF.search(str(error)) is None,
        f"rows up to {rows[-1] if rows else 0} were written": bool(rows) and rows[-1] >= end,
        f"step {kept} is kept, and not {end - EVERY} or the one before": kept != (end - 1) // (2 * EVERY) * 2 * EVERY,
        "what is kept is not finite": not sound,
    }
    fault = "; ".join(problem for problem, there in problems.items() if there)
    fault = f"{fault} ({error})" if fault else ""
    return Injection(system=one.system, place=place, value=value, step=step + 1, noticed=noticed, fault=fault)


def inject_member(one: Subject, whole: Any, folder: Path, *, place: str, leaf: int, value: str) -> Injection:
    """Put ``value`` into one of several members before the first step; the others must end as in ``whole``, to the bit."""
    state = from_step_0(one.restored.state)
    field = {"parameters": "params", "optimiser": "opt_state"}[place]
    member = jax.tree.map(lambda x: x[FAILING], getattr(state, field))
    bad = spoil(member, jnp.asarray(True), jnp.asarray(leaf, jnp.int32), jnp.asarray(VALUES[value], jnp.float32))
    state = state.replace(**{field: jax.tree.map(lambda x, b: x.at[FAILING].set(b), getattr(state, field), bad)})
    end, error = go_on(one, folder, state, poison(NEVER, place, 0, 0.0))
    events = [e for e in read_alarms(folder) if e["kind"].startswith("non-finite")]
    noticed = min((e["step"] for e in events if e["member"] == FAILING), default=None)
    others = [i for i in range(MEMBERS) if i != FAILING]
    problems = {
        f"the training ended ({error})": error is not None,
        f"noticed at step {noticed}": noticed != EVERY,
        "another member is reported": any(e["member"] != FAILING for e in events),
        "nothing is named": not any("what" in e for e in events),
        "other members are changed": end is not None and any(part(end, i) != part(whole, i) for i in others),
    }
    fault = "; ".join(problem for problem, there in problems.items() if there)
    return Injection(system=one.system, place=f"a member's {place}", value=value, step=1, noticed=noticed, fault=fault)


def part(state: Any, member: int) -> str:
    """Checksum of one member."""
    return checksum(jax.tree.map(lambda x: x[member], state))


def inject_all(
    systems: Sequence[str] = tuple(TRAININGS), *, values: Sequence[str] = tuple(VALUES), seed: int
) -> Iterator[Injection]:
    """Every place and value in every system, at steps and leaves drawn from ``seed``, alone and in one of three members."""
    for system in systems:
        with scratch() as folder:
            yield from _alone(system, folder, values, np.random.default_rng([seed, *system.encode()]))
            yield from _among_members(system, folder, values, np.random.default_rng([seed, 1, *system.encode()]))


def _alone(system: str, folder: Path, values: Sequence[str], rng: np.random.Generator) -> Iterator[Injection]:
    one = subject(system, folder, seeds=1)
    for place in PLACES:
        for value in values:
            leaf, step = int(rng.integers(2**16)), int(rng.integers(STEPS))
            yield inject(one, folder / f"{place}{value}", place=place, leaf=leaf, value=value, step=step)


def _among_members(system: str, folder: Path, values: Sequence[str], rng: np.random.Generator) -> Iterator[Injection]:
    several = subject(system, folder, seeds=MEMBERS)
    sound = from_step_0(several.restored.state)
    whole, _ = go_on(several, folder / "sound", sound, poison(NEVER, "data", 0, 0.0))
    for place in ("parameters", "optimiser"):
        for value in values:
            leaf, where = int(rng.integers(2**16)), folder / f"member{place}{value}"
            yield inject_member(several, whole, where, place=place, leaf=leaf, value=value)
