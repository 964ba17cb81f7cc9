"""Checkpoints with damaged files, full disks, read-only folders, two trainings in one folder: what each does to a run."""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saegan_jax.errors import ConfigError
from saegan_jax.runs.reliability.fingerprint import differences, fingerprint
from saegan_jax.runs.reliability.kills import Whole, finish, resumption, scratch, undisturbed
from saegan_jax.runs.reliability.processes import Process, tiny, train
from saegan_jax.runs.restore import abstract_phases
from saegan_jax.training.checkpoint import Checkpoints, checksum

Harm = Callable[[Path, random.Random], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of damage to one file of one system.

    Attributes:
      system: whose run it was.
      kind: of damage.
      where: the file, in its checkpoint or run folder.
      outcome: what the run made of it.
      fault: what was wrong with that; empty where nothing was.
      skipped: why it could not be tried here; empty where it was.
    """

    system: str
    kind: str
    where: str = ""
    outcome: str = ""
    fault: str = ""
    skipped: str = ""


def truncate(file: Path, rng: random.Random) -> None:
    """A random first part is left, at least one byte less than there were."""
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(max(1, len(content)))])


def empty(file: Path, rng: random.Random) -> None:
    """No byte is left."""
    file.write_bytes(b"")


def flip(file: Path, rng: random.Random) -> None:
    """One random bit is another."""
    content = bytearray(file.read_bytes())
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def delete(file: Path, rng: random.Random) -> None:
    """The file is gone."""
    file.unlink()


HARMS: dict[str, Harm] = {"truncated": truncate, "emptied": empty, "bit flipped": flip, "deleted": delete}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def damaged_checkpoint(
    checkpoints: Path, like: Any, sound: dict[int, str], before: dict[str, bytes]
) -> tuple[str, str]:
    """Outcome and fault of restoring from a folder whose newest checkpoint was damaged.

    Args:
      checkpoints: the folder.
      like: shapes of the state.
      sound: checksums of the states as they were saved, by step.
      before: :func:`contents` of the folder, which reading must not change.
    """
    newest = max(sound)
    try:
        with Checkpoints(checkpoints) as opened:
            restored = opened.restore(like)
            named = dict(opened.damaged)
    except ConfigError as error:
        return "refused", f"the older checkpoint was not taken: {error}"
    except Exception as error:  # whatever it is, it is no answer to a damaged file
        return "raised", f"{type(error).__name__}: {error}"
    if restored is None:
        return "begun anew", "the older checkpoint was not taken"
    step, state = restored
    outcome = "harmless: the newest, equal to the bit" if step == newest else "named, the one before taken"
    problems = {
        f"step {step} is not what was saved": checksum(state) != sound[step],
        "the damaged one is not named": step != newest and newest not in named and (checkpoints / str(newest)).exists(),
        "files were changed": contents(checkpoints) != before,
    }
    return outcome, "; ".join(problem for problem, there in problems.items() if there)


def checkpoint_cases(
    system: str, run: Path, rng: random.Random, *, harms: Sequence[str] = tuple(HARMS)
) -> Iterator[Case]:
    """Each of ``harms`` to every file of the newest checkpoint of a run's last phase."""
    phase, like = list(abstract_phases(run).items())[-1]
    checkpoints = run / "checkpoints" / phase
    with Checkpoints(checkpoints, read_only=True) as opened:
        sound = {step: checksum(opened.restore(like, step=step)[1]) for step in opened.steps}  # type: ignore[index]
    newest = checkpoints / str(max(sound))
    for file in sorted(path for path in newest.rglob("*") if path.is_file()):
        for kind in harms:
            copy = Path(shutil.copytree(checkpoints, run / "copy"))
            HARMS[kind](copy / file.relative_to(checkpoints), rng)
            outcome, fault = damaged_checkpoint(copy, like, sound, contents(copy))
            shutil.rmtree(copy)
            where = str(file.relative_to(newest))
            yield Case(system=system, kind=f"checkpoint, {kind}", where=where, outcome=outcome, fault=fault)


RUN_FILES: dict[str, set[str]] = {"config.json": set(), "metrics.jsonl": {"metrics"}, "alarms.jsonl": {"alarms"}}
"""By file, the parts of a fingerprint that are read from it alone: what the damage took of them is gone."""


def run_file_cases(system: str, folder: Path, half: Path, whole: Whole, rng: random.Random) -> Iterator[Case]:
    """Every kind of harm to the other files of a run that is resumed: it ends as before, or is refused in one paragraph."""
    for name, own in RUN_FILES.items():
        for kind, harm in HARMS.items():
            run = Path(shutil.copytree(half, folder / f"{name}-{kind.replace(' ', '-')}"))
            if not (run / name).exists():
                continue
            harm(run / name, rng)
            before = contents(run / "checkpoints")
            # A run whose configuration is gone is not taken for one, with or without --resume.
            ended = train(system, tiny(system, "--out", run, "--resume"), run.with_suffix(".txt"))
            yield Case(
                system=system,
                kind=f"run file, {kind}",
                where=name,
                **_judged(ended.code, ended.text, run, whole, before, own=own),
            )


def _judged(
    code: int | None, text: str, run: Path, whole: Whole, before: dict[str, bytes], *, own: set[str]
) -> dict[str, str]:
    if code == 0:
        differing = set(differences(fingerprint(run), whole.result))
        outcome = f"resumed, without lost {', '.join(sorted(differing & own))}" if differing & own else "resumed, equal"
        others = ", ".join(sorted(differing - own))
        return {"outcome": outcome, "fault": f"differs in {others}" if others else ""}
    return {"outcome": "refused", "fault": one_paragraph(code, text) or _changed(run, before)}


def _changed(run: Path, before: dict[str, bytes]) -> str:
    return "" if contents(run / "checkpoints") == before else "it was refused, and its checkpoints are changed"


def one_paragraph(code: int | None, text: str) -> str:
    """What is wrong with how a command ended that had to give up: nothing where it said one line, with code 2."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("Checkpoint ", "Alarm: "))]
    problems = {
        f"exit code {code}": code != 2,
        f"{len(lines)} lines": len(lines) != 1,
        "no error: at its start": not any(line.startswith("error:") for line in lines),
    }
    wrong = "; ".join(problem for problem, there in problems.items() if there)
    return f"{wrong}: {' '.join(text.split())[:400]}" if wrong else ""


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[str]:
    """Mount something on ``folder``; yields why that was not possible, or nothing."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        yield "mounting needs root"
        return
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"mount: {' '.join(done.stderr.split())}"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def full_disk_case(system: str, folder: Path, whole: Whole, *, kib: int) -> Case:
    """A disk of ``kib`` that fills up during a save; then it is given more room, and the run goes on."""
    disk = folder / f"disk{kib}"
    with mounted(disk, "-t", "tmpfs", "-o", f"size={kib}k", "saegan-jax-test") as impossible:
        if impossible:
            return Case(system=system, kind="full disk", where=f"{kib} KiB", skipped=impossible)
        run = disk / "run"
        ended = train(system, tiny(system, "--out", run), folder / f"disk{kib}.txt")
        if ended.code == 0:
            return Case(system=system, kind="full disk", where=f"{kib} KiB", outcome="it fitted")
        fault = one_paragraph(ended.code, ended.text)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=False, capture_output=True)
        fault = fault or finish(system, tiny(system, "--out", run), run, whole)
    outcome = "one paragraph, and equal after it went on with more room"
    return Case(system=system, kind="full disk", where=f"{kib} KiB", outcome=outcome, fault=fault)


def read_only_case(system: str, folder: Path, half: Path) -> Case:
    """A run folder that may only be read, by a read-only bind mount, since root ignores permissions."""
    run = Path(shutil.copytree(half, folder / "original"))
    before = contents(run)
    with mounted(folder / "read-only", "--bind", str(run)) as impossible:
        place = folder / "read-only"
        if not impossible:
            done = subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], capture_output=True, check=False)
            impossible = "no read-only bind mounts here" if done.returncode else ""
        if impossible:
            return Case(system=system, kind="read-only folder", skipped=impossible)
        ended = train(system, tiny(system, "--out", place, "--resume"), folder / "read-only.txt")
    fault = one_paragraph(ended.code, ended.text) or ("" if contents(run) == before else "files were changed")
    if not fault and os.strerror(errno.EROFS).lower() not in ended.text.lower():
        fault = f"the reason is not named: {ended.text[:300]}"
    return Case(system=system, kind="read-only folder", outcome="refused in one paragraph", fault=fault)


def two_at_once_case(system: str, folder: Path, whole: Whole, number: int, *, begun: Path | None) -> Case:
    """Two processes begin, or resume, one run at the same moment: one trains to the end, the other is refused."""
    run = folder / f"both{number}"
    if begun is not None:
        shutil.copytree(begun, run)
    arguments = [*tiny(system, "--out", run), *resumption(run)]
    both = [Process(system, arguments, folder / f"both{number}-{i}.txt") for i in range(2)]
    ended = [process.wait() for process in both]
    codes = sorted(str(one.code) for one in ended)
    refused = next((one for one in ended if one.code == 2), ended[0])
    fault = "" if codes == ["0", "2"] else f"exit codes {' and '.join(codes)}"
    fault = fault or one_paragraph(refused.code, refused.text)
    differing = [] if fault else differences(fingerprint(run), whole.result)
    fault = fault or (f"differs in {', '.join(differing)}" if differing else "")
    kind = f"two processes {'resume' if begun else 'begin'} at once"
    return Case(system=system, kind=kind, outcome="one trains, the other is refused", fault=fault)


DISKS = (24, 64, 160, 320, 640)
"""Sizes in KiB on which a tiny training fills the disk, each at another of its writes."""


def damage_all(systems: Sequence[str], *, world: str, pairs: int, seed: int) -> Iterator[Case]:
    """Every kind of damage.

    Args:
      systems: whose newest checkpoint is damaged, file by file.
      world: the system for damage to the run folder, the disk and to processes.
      pairs: trainings that two processes begin at once, and as many that they resume at once.
      seed: of positions of the damage.
    """
    for system in dict.fromkeys((world, *systems)):
        rng = random.Random(f"{seed} {system}")
        with scratch() as folder:
            whole = undisturbed(system, folder)
            if system in systems:
                yield from checkpoint_cases(system, folder / "whole", rng)
            if system == world:
                yield from world_cases(system, folder, whole, rng, pairs=pairs)


def world_cases(system: str, folder: Path, whole: Whole, rng: random.Random, *, pairs: int) -> Iterator[Case]:
    """Damage to everything around the checkpoints."""
    half = half_done(folder / "whole", folder / "half")
    for kib in DISKS:
        yield full_disk_case(system, folder, whole, kib=kib)
    yield read_only_case(system, folder, half)
    for number in range(2 * pairs):
        yield two_at_once_case(system, folder, whole, number, begun=half if number % 2 else None)
    yield from run_file_cases(system, folder, half, whole, rng)


def half_done(whole: Path, half: Path) -> Path:
    """A copy of a finished run without its last checkpoint and what followed: one that was killed there."""
    shutil.copytree(whole, half)
    (half / "summary.json").unlink()
    phase = next(iter(reversed(list(abstract_phases(half)))))
    newest = max((half / "checkpoints" / phase).iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    return half
