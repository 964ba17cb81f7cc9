"""The loop: a run that was stopped, killed or damaged ends where an undisturbed one does, and a diverging one stops."""

import io
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import QUICK_TO_COMPILE, Outcome, command, finished, metrics, start, tiny, tree
from helpers import assert_close, assert_same, uint8_data
from rich.console import Console

from saegan_jax.algorithms.base import Batch
from saegan_jax.data.dataset import Split
from saegan_jax.data.sources import InMemory
from saegan_jax.data.stream import Stream
from saegan_jax.errors import ConfigError
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.training import chunks, memory, stream
from saegan_jax.training.callbacks import Callback, Scores
from saegan_jax.training.checkpoint import Checkpoints
from saegan_jax.training.finite import NonFiniteError
from saegan_jax.training.loop import train
from saegan_jax.training.phase import Phase, check_batch, check_schedule
from saegan_jax.training.run_folder import from_json, read_config
from saegan_jax.training.stop import StoppedError
from saegan_jax.training.systems import abstract_system
from saegan_jax.training.transforms import DATA_ORDER
from saegan_jax.training.writers import Display, MetricsWriter, read_alarms, read_metrics

DATA = uint8_data(13)


@flax.struct.dataclass
class Walk:
    """A random walk that depends on the key, the data and its own past."""

    step: jax.Array
    key: jax.Array
    w: jax.Array


class Info(NamedTuple):
    loss: jax.Array
    size: jax.Array


def init() -> Walk:
    return Walk(step=jnp.zeros((), jnp.int32), key=jax.random.key(1), w=jnp.ones(3))


def two() -> Walk:
    return jax.vmap(lambda key: init().replace(key=key))(jax.vmap(jax.random.key)(jnp.arange(2)))


def walk(state: Walk, batch: Any) -> tuple[Walk, Info]:
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (3,))
    w = 0.9 * state.w + batch.image.mean() * noise
    return state.replace(step=state.step + 1, w=w), Info(loss=w.sum(), size=jnp.abs(w).max())


def phase(**changes: Any) -> Phase:
    settings: dict[str, Any] = {
        "name": "walk",
        "init": init,
        "step": walk,
        "n_seeds": 1,
        "steps": 40,
        "batch_size": 4,
        "log_every": 5,
        "save_every": 10,
        "picture_every": 5,
        "shown": ("loss",),
    }
    return Phase(**(settings | changes))


def go(
    folder: Path, *, data: Batch | Stream = DATA, picture: Callable[[int, Any], None] | None = None, **changes: Any
) -> Any:
    callbacks = (Callback(on_evaluation=picture),) if picture else ()
    writer = MetricsWriter(folder)
    folder.mkdir(exist_ok=True)
    try:
        display = Display(Console(file=io.StringIO()))
        one = phase(**{"callbacks": callbacks} | changes)
        return train(one, data, folder=folder, config={"a": 1}, writer=writer, display=display)
    finally:
        writer.close()


def saved(folder: Path, like: Callable[[], Any] = init) -> tuple[int, Any]:
    with Checkpoints(folder / "checkpoints" / "walk") as checkpoints:
        restored = checkpoints.restore(jax.eval_shape(like))
    assert restored is not None
    return restored


def stop_at(step: int) -> Callable[[int, Any], None]:
    return lambda at, state: signal.raise_signal(signal.SIGTERM) if at == step else None


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_stopped_twice_and_resumed_equals_undisturbed_to_the_bit(n_seeds: int, tmp_path: Path) -> None:
    many = {"n_seeds": n_seeds, "init": init if n_seeds == 1 else two}
    whole = go(tmp_path / "whole", **many)
    assert int(np.max(whole.step)) == 40
    # The request comes after the chunk that ends at 10, so the next one is the last; 15 is no multiple of save_every.
    with pytest.raises(StoppedError, match="step 15 of 40 of phase 'walk'"):
        go(tmp_path / "parts", **many, picture=stop_at(10))
    with pytest.raises(StoppedError, match="step 25 of 40"):
        go(tmp_path / "parts", **many, picture=stop_at(20))
    assert_same(go(tmp_path / "parts", **many), whole)
    assert_same(saved(tmp_path / "parts", many["init"])[1], whole)
    rows = metrics(tmp_path / "parts")
    assert [row["step"] for row in rows] == list(range(5, 45, 5))
    assert rows == metrics(tmp_path / "whole")


def test_rows_are_means_over_each_interval(tmp_path: Path) -> None:
    seen: list[float] = []

    def spy(state: Walk, batch: Any) -> tuple[Walk, Info]:
        after, info = walk(state, batch)
        jax.debug.callback(lambda x: seen.append(float(x)), info.loss, ordered=True)
        return after, info

    go(tmp_path, step=spy, steps=20)
    jax.effects_barrier()
    assert len(seen) == 20
    expected = np.reshape(seen, (4, 5)).mean(axis=1)
    np.testing.assert_allclose([row["loss"] for row in read_metrics(tmp_path)], expected, rtol=1e-5)


def test_a_stop_in_the_last_chunk_is_not_forgotten(tmp_path: Path) -> None:
    # Or the run would go on with its next phase, or with minutes of scoring.
    with pytest.raises(StoppedError):
        go(tmp_path, picture=stop_at(35))
    assert saved(tmp_path)[0] == 40
    with pytest.raises(StoppedError):
        go(tmp_path / "b", picture=stop_at(40))
    assert saved(tmp_path / "b")[0] == 40


def test_a_finished_phase_is_returned_without_a_step(tmp_path: Path) -> None:
    whole = go(tmp_path)

    def never(state: Walk, batch: Any) -> tuple[Walk, Info]:
        raise AssertionError("a step was traced")

    assert_same(go(tmp_path, step=never), whole)
    assert len(metrics(tmp_path)) == 8
    with pytest.raises(ConfigError, match=r"walk\.steps = 20 .* already at step 40"):
        go(tmp_path, steps=20)


def test_signals_have_their_usual_effect_before_after_and_the_second_time(tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    interrupt = signal.getsignal(signal.SIGINT)
    try:

        def twice(step: int, state: Any) -> None:
            if step > 5:
                return
            signal.raise_signal(signal.SIGTERM)
            assert received == []
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
            assert signal.getsignal(signal.SIGINT) is not interrupt

        with pytest.raises(StoppedError):
            go(tmp_path, picture=twice)
        assert signal.getsignal(signal.SIGINT) is interrupt
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_trains_in_a_thread_that_may_not_handle_signals(tmp_path: Path) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(go(tmp_path)))
    thread.start()
    thread.join()
    assert int(results[0].step) == 40


def bad_from(step: int, *, loss: bool, member: int | None = None) -> Callable[..., Any]:
    """The walk, in which the loss or a parameter is no longer finite from ``step`` on (counted from 1)."""

    def bad_walk(state: Walk, batch: Any) -> tuple[Walk, Info]:
        state, info = walk(state, batch)
        bad = state.step >= step
        if member is not None:
            # Keys of the two members differ in their last word, which is the seed.
            bad &= jax.random.key_data(state.key)[1] == jnp.uint32(member)
        if loss:
            return state, info._replace(size=jnp.where(bad, jnp.nan, info.size))
        return state.replace(w=jnp.where(bad, jnp.inf, state.w)), info._replace(loss=jnp.zeros(()), size=jnp.ones(()))

    return bad_walk


def test_a_loss_that_is_not_finite_stops_within_one_interval(tmp_path: Path) -> None:
    reached: list[int] = []
    drawn: list[int] = []

    def spy(state: Walk, batch: Any) -> tuple[Walk, Info]:
        jax.debug.callback(lambda x: reached.append(int(x)), state.step)
        return bad_from(7, loss=True)(state, batch)

    go(tmp_path, step=walk, steps=5)
    with pytest.raises(NonFiniteError, match=r"^walk: size became nan at step 7\. .*checkpoints saved before are kept"):
        go(tmp_path, step=spy, save_every=20, picture=lambda step, state: drawn.append(step))
    jax.effects_barrier()
    assert max(reached) < 15  # found while the chunk after it runs at the latest
    assert drawn == []
    assert [row["step"] for row in metrics(tmp_path)] == [5]
    step, state = saved(tmp_path)
    assert step == 5
    assert np.isfinite(state.w).all()


def test_the_first_of_several_bad_quantities_and_its_member_are_named(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"^walk: size became nan at step 13\."):
        go(tmp_path, step=bad_from(13, loss=True), save_every=40)
    assert not list((tmp_path / "checkpoints" / "walk").iterdir())


def test_parameters_that_are_not_finite_are_never_saved_nor_drawn(tmp_path: Path) -> None:
    drawn: list[int] = []
    bad = {"step": bad_from(17, loss=False), "picture_every": 40, "picture": lambda step, state: drawn.append(step)}
    message = r"not finite at step 20, though every loss before it was, and all were 5 steps earlier: \.w\."
    with pytest.raises(NonFiniteError, match=message):
        go(tmp_path, **bad)
    step, state = saved(tmp_path)
    assert step == 10
    assert np.isfinite(state.w).all()
    with pytest.raises(NonFiniteError, match="not finite at step 20"):
        go(tmp_path, **(bad | {"picture_every": 5, "save_every": 40}))
    assert drawn == [15]


def test_a_damaged_newest_checkpoint_is_named_and_its_step_passed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = go(tmp_path / "whole")
    with pytest.raises(StoppedError):
        go(tmp_path / "parts", picture=stop_at(15))
    newest = tmp_path / "parts" / "checkpoints" / "walk" / "20"
    for file in newest.rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])
    capsys.readouterr()
    assert_same(go(tmp_path / "parts"), whole)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Checkpoint walk/20 is damaged and was skipped (")
    assert err.count("\n") == 1
    assert (tmp_path / "parts" / "checkpoints" / "walk-damaged-20").is_dir()
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_a_run_of_which_no_checkpoint_can_be_read_does_not_begin_anew(tmp_path: Path) -> None:
    go(tmp_path)
    for file in (tmp_path / "checkpoints").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])
    before = tree(tmp_path)
    with pytest.raises(
        ConfigError, match=r"none of its checkpoints can be read \(step 40: .*; step 30: .*\)"
    ) as caught:
        go(tmp_path)
    assert str(tmp_path / "checkpoints" / "walk") in str(caught.value)
    assert tree(tmp_path) == before


def test_a_folder_from_which_nothing_could_be_read_back_is_refused_before_a_step(tmp_path: Path) -> None:
    def never(state: Walk, batch: Any) -> tuple[Walk, Info]:
        raise AssertionError("a step was traced")

    with pytest.raises(ConfigError, match=r"its path holds \[, and checkpoints there could not be read again"):
        go(tmp_path / "run[1]", step=never)
    assert list((tmp_path / "run[1]").iterdir()) == []


def test_a_bad_line_among_the_rows_stops_a_resumed_run_and_is_left_in_place(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        go(tmp_path, picture=stop_at(10))
    file = tmp_path / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:1], "3\n", *lines[1:]]))
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl = .* line 2 is no row with a phase and a step \('3'\)"):
        go(tmp_path)
    assert tree(tmp_path) == before
    file.write_text("".join(lines))
    go(tmp_path)
    assert [row["step"] for row in metrics(tmp_path)] == list(range(5, 45, 5))


def test_callbacks_are_called_in_order_with_rows_one_interval_late(tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    def noting(name: str) -> Callback:
        return Callback(
            on_metrics=lambda step, row: seen.append((name, "metrics", step, sorted(row))),
            on_evaluation=lambda step, state: seen.append((name, "evaluation", step, int(state.step))),
            on_save=lambda step, state: seen.append((name, "save", step, int(state.step))),
        )

    class Spied(chunks.OnDevice):
        def advance(self, state: Any) -> tuple[Any, Any]:
            seen.append(("device", "chunk"))
            return super().advance(state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "OnDevice", Spied)
        go(tmp_path, steps=20, save_every=20, picture_every=20, callbacks=(noting("a"), noting("b")))
    fields = ["loss", "size", "steps_per_second"]
    rows = {step: [(name, "metrics", step, fields) for name in "ab"] for step in (5, 10, 15, 20)}
    chunk = ("device", "chunk")
    ends = [(name, moment, 20, 20) for moment in ("evaluation", "save") for name in "ab"]
    # While a chunk runs on the device the rows of the one before are handed out.
    assert seen == [chunk, chunk, *rows[5], chunk, *rows[10], chunk, *rows[15], *rows[20], *ends]


def test_what_a_callback_raises_ends_the_training_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    def fail(step: int, state: Any) -> None:
        if step == 20:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        go(tmp_path, callbacks=(Callback(on_save=fail),))
    assert saved(tmp_path)[0] == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_every": 0}, "log_every = 0 "),
        ({"steps": 44}, r"gan\.steps = 44 .* log_every = 10; use 40 or 50\."),
        ({"steps": 4}, r"gan\.steps = 4 .* use 10\."),
        ({"save_every": 15}, "save_every = 15 .* use 10 or 20"),
        ({"save_every": 0}, r"save_every = 0 .* use 10\."),
        ({"picture_every": -20}, r"picture_every = -20 .* use 10\."),
    ],
)
def test_intervals_that_are_no_multiples(changes: dict[str, int], message: str) -> None:
    good = {"steps": 40, "log_every": 10, "save_every": 20, "picture_every": 40}
    check_schedule("gan", **good)
    with pytest.raises(ConfigError, match=message):
        check_schedule("gan", **(good | changes))


def test_batches_and_steps_that_cannot_be_taken() -> None:
    check_batch("gan", 13, 13, steps=100)
    with pytest.raises(ConfigError, match=r"gan\.batch_size = 14 .* 13 images"):
        check_batch("gan", 14, 13, steps=100)
    # The position in the data is an int32.
    check_batch("gan", 1024, 2000, steps=2**21 - 1)
    with pytest.raises(ConfigError, match=r"gan\.steps = 2097152 .* at most 2097151"):
        check_batch("gan", 1024, 2000, steps=2**21)


def test_parameters_are_checked_in_every_interval_and_not_at_saves_alone(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"not finite at step 10, .* all were 5 steps earlier: \.w\."):
        go(tmp_path, step=bad_from(7, loss=False), save_every=40, picture_every=40)


def test_a_program_larger_than_the_memory_is_refused_before_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda: 1)
    with pytest.raises(
        ConfigError, match=r"^walk\.batch_size = .* with its activations, and the device has .* smaller batch"
    ):
        go(tmp_path)
    assert metrics(tmp_path) == []


# Members, alarms, scores, drawn batches


def four() -> Walk:
    return jax.vmap(lambda key: init().replace(key=key))(jax.vmap(jax.random.key)(jnp.arange(4)))


def alarms(folder: Path) -> list[tuple[int, int, str, str]]:
    return [(e["step"], e["member"], e["kind"], e["state"]) for e in read_alarms(folder)]


@pytest.mark.parametrize("loss", [True, False])
def test_a_member_that_fails_is_an_alarm_and_the_other_trains_on(
    loss: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[int] = []
    both = {"n_seeds": 2, "init": two}

    def failing(state: Walk, batch: Any) -> tuple[Walk, Info]:
        after, info = bad_from(12, loss=loss, member=0)(state, batch)
        return after, info._replace(loss=after.w.sum())

    end = go(tmp_path / "bad", **both, step=failing, picture=lambda step, state: drawn.append(step))
    kinds = ["non-finite"] + ["non-finite parameters"] * (not loss)
    assert alarms(tmp_path / "bad") == [(15, 0, kind, "begins") for kind in kinds]
    named = ["size" if loss else "loss", ".w"][: len(kinds)]
    said = [f"Alarm: {k} begins at step 15, member 0 ({what}).\n" for k, what in zip(kinds, named, strict=True)]
    assert capsys.readouterr().err == "".join(said)
    assert drawn == list(range(5, 45, 5))
    sound = go(tmp_path / "sound", **both)
    assert alarms(tmp_path / "sound") == []
    other = [jax.tree.map(lambda x: x[1], state) for state in (end, sound, saved(tmp_path / "bad", two)[1])]
    assert_close(other[0], other[1], rtol=1e-6, atol=0)  # another program may round otherwise
    assert_same(other[2], other[0])
    if not loss:
        assert not np.isfinite(end.w[0]).any()
    rows = read_metrics(tmp_path / "bad")
    assert [r["step"] for r in rows] == list(range(5, 45, 5))
    # On disk there is no NaN, which JSON does not have, and a reader is told which numbers were none.
    lines, events = (
        [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "bad" / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "alarms.jsonl")
    )
    name = "size" if loss else "loss"
    assert lines[2][name][0] is None
    assert lines[2]["non_finite"][f"{name}[0]"] == str(rows[2][name][0])
    assert "non_finite" not in lines[1]
    assert not np.isfinite(rows[2][name][0])
    assert np.isfinite(rows[2][name][1])
    assert (events[0]["value"], events[0]["non_finite"]) == (None, {"value": "nan"})


def test_it_stops_when_no_member_is_left(tmp_path: Path) -> None:
    def one_after_the_other(state: Walk, batch: Any) -> tuple[Walk, Info]:
        after, info = bad_from(12, loss=True, member=1)(state, batch)
        bad = bad_from(23, loss=True, member=0)(state, batch)[1].size
        return after, info._replace(size=info.size + 0 * bad)

    message = r"^walk: size of member 1 became nan at step 21\. No other member is finite either\. Training stopped"
    with pytest.raises(NonFiniteError, match=message):
        go(tmp_path, n_seeds=2, init=two, step=one_after_the_other)
    # The last one's is on record too, though nothing after it.
    assert alarms(tmp_path) == [(15, 1, "non-finite", "begins"), (25, 0, "non-finite", "begins")]
    assert saved(tmp_path, two)[0] == 20
    # The same where only parameters show it.
    both_bad = bad_from(17, loss=False)
    with pytest.raises(NonFiniteError, match="not finite at step 20, though every loss before it was"):
        go(tmp_path / "b", n_seeds=2, init=two, step=both_bad)


def trembling(state: Walk, batch: Any) -> tuple[Walk, Info]:
    """Not finite for a member now and then."""
    after, info = walk(state, batch)
    bad = (state.step % 20 == 7) & (jax.random.key_data(state.key)[1] == jnp.uint32(1))
    return after, info._replace(size=jnp.where(bad, jnp.nan, info.size))


def recall_of(calls: list[int]) -> Callable[[int, Any], Scores]:
    """Scores that a state decides: the second member's collapses at 20 and 30, and passes."""

    def score(step: int, state: Any) -> Scores:
        calls.append(step)
        values = [0.5 + 0.001 * float(state.w[m, 0]) for m in range(2)]
        values[1] *= 0.01 if step in (5, 20, 25, 30) else 1
        return Scores({"recall": values, "frechet": [float(state.w[m, 1]) for m in range(2)]}, {"recall": 0.6})

    return score


def test_alarms_and_scores_of_a_resumed_run_are_those_of_an_undisturbed_one(tmp_path: Path) -> None:
    calls: list[int] = []
    many = {"n_seeds": 2, "init": two, "step": trembling, "score": recall_of(calls)}
    whole = go(tmp_path / "whole", **many)
    assert calls == list(range(5, 45, 5))
    assert alarms(tmp_path / "whole") == [
        (10, 1, "non-finite", "begins"),
        (15, 1, "non-finite", "ends"),
        (20, 1, "collapse of recall", "begins"),
        (30, 1, "non-finite", "begins"),
        (35, 1, "non-finite", "ends"),
        (35, 1, "collapse of recall", "ends"),
    ]
    rows = [r for r in metrics(tmp_path / "whole") if r["phase"] == "walk-scores"]
    assert [r["step"] for r in rows] == calls
    assert all(np.shape(r["recall"]) == np.shape(r["frechet"]) == (2,) for r in rows)

    # Killed when the look at 35 has been told, and nothing saved since 30.
    def killed(step: int, state: Any) -> None:
        if step == 35:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "parts", **many, picture=killed)
    told = [(tmp_path / name / "alarms.jsonl").read_text() for name in ("parts", "whole")]
    assert len(told[0].splitlines()) >= 5
    restored = saved(tmp_path / "parts", two)[0]
    assert restored == 30
    assert max(r["step"] for r in metrics(tmp_path / "parts")) == 35
    assert_same(go(tmp_path / "parts", **many), whole)
    assert (tmp_path / "parts" / "alarms.jsonl").read_text() == told[1]
    assert sorted(map(str, metrics(tmp_path / "parts"))) == sorted(map(str, metrics(tmp_path / "whole")))
    # Of another phase nothing is forgotten.
    assert all(e["phase"] == "walk" for e in read_alarms(tmp_path / "parts"))


def test_a_single_members_scores_are_numbers_and_judged_from_a_quarter_on(tmp_path: Path) -> None:
    go(tmp_path, score=lambda step, state: Scores({"recall": [0.0]}, {"recall": 0.6}))
    assert alarms(tmp_path) == [(10, 0, "collapse of recall", "begins")]  # 5 of 40 is too early
    rows = [r for r in metrics(tmp_path) if r["phase"] == "walk-scores"]
    assert rows == [{"phase": "walk-scores", "step": s, "recall": 0.0} for s in range(5, 45, 5)]


def draw_two(key: jax.Array, data: Batch) -> Batch:
    """Two images of the data, each darkened by its own amount."""
    which, light = jax.random.split(key)
    index = jax.random.randint(which, (2,), 0, data.label.shape[0])
    image = data.image[index].astype(jnp.float32) / 255 * jax.random.uniform(light, (2, 1, 1, 1))
    return Batch(image, data.label[index])


def test_drawn_batches_equal_those_drawn_by_hand_and_resume_to_the_bit(tmp_path: Path) -> None:
    drawn = {"draw": draw_two, "n_seeds": 2, "init": two}
    whole = go(tmp_path / "whole", **drawn)
    step = jax.jit(lambda state, key: walk(state, draw_two(key, DATA))[0])
    for member in range(2):
        state = jax.tree.map(lambda x, m=member: x[m], two())
        for t in range(40):
            state = step(state, jax.random.fold_in(jax.random.fold_in(state.key, DATA_ORDER), t))
        np.testing.assert_allclose(whole.w[member], state.w, rtol=1e-4, atol=1e-6)
    with pytest.raises(StoppedError):
        go(tmp_path / "parts", **drawn, picture=stop_at(15))
    assert_same(go(tmp_path / "parts", **drawn), whole)


@pytest.mark.parametrize("n_seeds", [3, 4])
def test_members_that_do_not_fit_in_memory_take_turns(
    n_seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int | None] = []
    ensemble = chunks.ensemble

    def spy(chunk: Any, *, members_per_vmap: int | None = None, **rest: Any) -> Any:
        sizes.append(members_per_vmap)
        return ensemble(chunk, members_per_vmap=members_per_vmap, **rest)

    monkeypatch.setattr(chunks, "ensemble", spy)
    many = {"n_seeds": n_seeds, "init": lambda: jax.tree.map(lambda x: x[:n_seeds], four())}
    together = go(tmp_path / "a", **many)
    assert sizes == [None]
    # By choice; more than there are is all of them.
    sizes.clear()
    two_at_a_time = go(tmp_path / "c", **many, members_per_vmap=2)
    assert sizes == [2]
    np.testing.assert_allclose(two_at_a_time.w, together.w, rtol=1e-5, atol=1e-6)
    sizes.clear()
    go(tmp_path / "d", **many, members_per_vmap=9, steps=10)
    assert sizes == [None]
    monkeypatch.setattr(chunks, "fits", lambda program: False)
    sizes.clear()
    one_by_one = go(tmp_path / "b", **many)
    assert sizes == [None, 2, 1]
    for m in range(n_seeds):
        np.testing.assert_allclose(one_by_one.w[m], together.w[m], rtol=1e-5, atol=1e-6)
    for a, b in zip(metrics(tmp_path / "b"), metrics(tmp_path / "a"), strict=True):
        assert a["step"] == b["step"]
        np.testing.assert_allclose(np.asarray(a["loss"]), np.asarray(b["loss"]), rtol=1e-4, atol=1e-5)


def test_memory_is_counted_in_bytes() -> None:
    assert 2**28 < memory.device_memory() < 2**50


# Data that stay on the host


def streamed(*, read: Callable[[Any], None] = lambda index: None) -> Stream:
    class Source(InMemory):
        def read(self, index: Any) -> Split:
            read(index)
            return super().read(index)

    return Stream(source=Source(Split(np.asarray(DATA.image), np.asarray(DATA.label))), threads=2, buffered=1)


def without_waits(folder: Path) -> list[dict[str, Any]]:
    rows = metrics(folder)
    assert all(0 <= float(str(row["data_wait"])) <= 1 for row in rows)
    return [{name: value for name, value in row.items() if name != "data_wait"} for row in rows]


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_a_stream_trains_as_data_on_the_device_do(
    n_seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {"n_seeds": n_seeds, "init": init if n_seeds == 1 else two}
    device = go(tmp_path / "device", **many)
    host = go(tmp_path / "host", **many, data=streamed())
    np.testing.assert_allclose(host.w, device.w, rtol=1e-5, atol=1e-6)
    for a, b in zip(without_waits(tmp_path / "host"), metrics(tmp_path / "device"), strict=True):
        assert a["step"] == b["step"]
        np.testing.assert_allclose(np.asarray(a["loss"]), np.asarray(b["loss"]), rtol=1e-4, atol=1e-5)
    # Blocks of a step each, five to an interval, and members that take turns.
    monkeypatch.setattr(stream, "BLOCK", 1)
    blocks = go(tmp_path / "blocks", **many, members_per_vmap=1, data=streamed())
    np.testing.assert_allclose(blocks.w, host.w, rtol=1e-5, atol=1e-6)
    assert [row["step"] for row in without_waits(tmp_path / "blocks")] == list(range(5, 45, 5))


@pytest.mark.parametrize("block", [1, 2**20])
def test_a_stream_stopped_and_killed_resumes_to_the_bit(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK", block)
    many = {"n_seeds": 2, "init": two}
    whole = go(tmp_path / "whole", **many, data=streamed())
    with pytest.raises(StoppedError, match="step 15 of 40"):
        go(tmp_path / "parts", **many, data=streamed(), picture=stop_at(10))
    assert saved(tmp_path / "parts", two)[0] == 15  # though more had been read

    def killed(index: Any) -> None:  # while it reads for a chunk after the checkpoint at 30
        reads.append(index)
        if len(reads) > 20:
            raise KeyboardInterrupt

    reads: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "parts", **many, data=streamed(read=killed))
    assert 20 <= saved(tmp_path / "parts", two)[0] < 40
    assert_same(go(tmp_path / "parts", **many, data=streamed()), whole)
    assert_same(saved(tmp_path / "parts", two)[1], whole)
    assert without_waits(tmp_path / "parts") == without_waits(tmp_path / "whole")


def test_a_training_goes_on_wherever_its_data_are(tmp_path: Path) -> None:
    whole = go(tmp_path / "whole")
    with pytest.raises(StoppedError):
        go(tmp_path / "parts", picture=stop_at(10))
    with pytest.raises(StoppedError):
        go(tmp_path / "parts", data=streamed(), picture=stop_at(25))
    assert saved(tmp_path / "parts")[0] == 30
    np.testing.assert_allclose(go(tmp_path / "parts").w, whole.w, rtol=1e-5, atol=1e-6)


def test_a_slow_source_shows_in_the_rows_and_as_an_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(tmp_path, data=streamed(read=lambda index: time.sleep(0.02)), steps=20)
    rows = metrics(tmp_path)
    assert len(rows) == 4
    # What the first interval reads is read before the clock starts, while the program is compiled.
    assert all(0.3 < float(str(row["data_wait"])) <= 1 for row in rows[1:])
    (event,) = read_alarms(tmp_path)
    assert (event["member"], event["kind"], event["state"]) == (None, "starvation", "begins")
    assert event["value"] == read_metrics(tmp_path)[event["step"] // 5 - 1]["data_wait"]
    assert capsys.readouterr().err.startswith(
        f"Alarm: starvation begins at step {event['step']}; the device waited for"
    )


def test_what_a_stream_cannot_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"draw = .* made on the fly need their data on the device"):
        go(tmp_path / "a", data=streamed(), draw=draw_two)
    with pytest.raises(ConfigError, match=r"batch_size = 14 .* there are 13 examples"):
        go(tmp_path / "b", data=streamed(), batch_size=14)

    def broken(index: Any) -> None:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        go(tmp_path / "c", data=streamed(read=broken))


def test_the_budget_of_data_is_a_quarter_of_the_smaller_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for device, host in ((400, 800), (800, 400)):
        monkeypatch.setattr(memory, "device_memory", lambda device=device: device)
        monkeypatch.setattr(memory, "host_memory", lambda host=host: host)
        assert memory.data_budget() == 100


# Whole runs, each a process that is stopped or killed.


def wait_for_rows(process: subprocess.Popen[str], folder: Path, phase: str, rows: int) -> None:
    deadline = time.monotonic() + 600
    file = folder / "metrics.jsonl"
    while not file.exists() or file.read_text().count(f'"phase": "{phase}"') < rows:
        assert process.poll() is None, f"it ended first: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def interrupt(script: str, arguments: list[str], folder: Path, number: int, *, phase: str, rows: int) -> Outcome:
    """Start a run, and send it a signal once ``rows`` rows of ``phase`` are written."""
    with start(script, *arguments) as process:
        try:
            wait_for_rows(process, folder, phase, rows)
            os.kill(process.pid, number)
            return finished(process)
        finally:
            process.kill()


def without_progress(out: str) -> list[str]:
    """Lines of the output but for those that a slow machine prints every half a minute."""
    return [line for line in out.splitlines() if not re.match(r"\w+: step [\d,]+ of [\d,]+, ", line)]


def final_states(folder: Path) -> dict[str, Any]:
    """The last state of every phase, restored."""
    config = read_config(folder)
    training = TRAININGS[config["script"]]
    field, last = training.settings, training.phase
    options = from_json(training.options, config["options"])
    settings = getattr(options, field)
    phases = {last: settings} if field != "model" else {"sae": settings.sae, "gan": settings}
    states = {}
    for name, value in phases.items():
        like = abstract_system(value, image_shape=tuple(config["image_shape"]), n_seeds=options.seeds)[1]
        with Checkpoints(folder / "checkpoints" / name, read_only=True) as checkpoints:
            restored = checkpoints.restore(like)
            assert restored is not None
            assert checkpoints.damaged == []
            step, state = restored
            assert step == int(np.max(state.step))
        states[name] = state
    return states


def assert_same_runs(folder: Path, undisturbed: Path) -> None:
    assert_same(final_states(folder), final_states(undisturbed))
    assert metrics(folder) == metrics(undisturbed)
    names = sorted(p.name for p in (undisturbed / "samples").iterdir())
    assert sorted(p.name for p in (folder / "samples").iterdir()) == names
    for name in [*(f"samples/{n}" for n in names), "summary.json", "config.json", "dictionary.png"]:
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name


LONG = ["--save-every", "100", "--picture-every", "200"]


@pytest.mark.slow
def test_a_sparse_autoencoder_stopped_then_killed_ends_the_same_to_the_bit(tmp_path: Path) -> None:
    def arguments(name: str) -> list[str]:
        return tiny("train_sae", *LONG, "--sae.steps", 1000, "--out", tmp_path / name)

    assert command("train_sae", *arguments("whole")).code == 0
    folder = tmp_path / "parts"
    code, out, err = interrupt("train_sae", arguments("parts"), folder, signal.SIGTERM, phase="sae", rows=30)
    assert code == 143
    assert without_progress(out) == []
    stopped = re.fullmatch(
        r"SIGTERM: stopping after this chunk of steps; a second signal ends the process at once\.\n"
        r"Stopped at step (\d+) of 1000 of phase 'sae'; everything is saved\. To continue: python\S* -m "
        r"experiments\.train_sae .* --resume\n",
        err,
    )
    assert stopped
    assert metrics(folder)[-1]["step"] == int(stopped[1])
    resumed = [*arguments("parts"), "--resume"]
    rows = int(stopped[1]) // 5 + 30  # half an interval of saving past the next checkpoint
    assert interrupt("train_sae", resumed, folder, signal.SIGKILL, phase="sae", rows=rows).code == -signal.SIGKILL
    assert command("train_sae", *resumed).code == 0
    assert_same_runs(folder, tmp_path / "whole")


def test_a_sae_gan_stopped_in_its_first_phase_ends_the_same_to_the_bit(tmp_path: Path) -> None:
    def arguments(name: str) -> list[str]:
        return tiny("train_saegan", *LONG, "--sae.steps", 600, "--gan.steps", 100, "--out", tmp_path / name)

    assert command("train_saegan", *arguments("whole")).code == 0
    stopped = interrupt("train_saegan", arguments("parts"), tmp_path / "parts", signal.SIGTERM, phase="sae", rows=20)
    assert stopped.code == 143
    assert "of phase 'sae'" in stopped.err
    assert command("train_saegan", *arguments("parts"), "--resume").code == 0
    assert_same_runs(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
def test_two_sae_gans_at_once_killed_end_the_same_to_the_bit(tmp_path: Path) -> None:
    def arguments(name: str) -> list[str]:
        steps = ["--sae.steps", 100, "--gan.steps", 700, "--seeds", 2]
        return tiny(
            "train_saegan", *LONG, *QUICK_TO_COMPILE, "--discriminator", "codes", *steps, "--out", tmp_path / name
        )

    assert command("train_saegan", *arguments("whole")).code == 0
    # Half an interval of saving past a checkpoint.
    killed = interrupt("train_saegan", arguments("parts"), tmp_path / "parts", signal.SIGKILL, phase="gan", rows=30)
    assert killed.code == -signal.SIGKILL
    assert command("train_saegan", *arguments("parts"), "--resume").code == 0
    assert_same_runs(tmp_path / "parts", tmp_path / "whole")


def test_a_finished_gan_goes_on_to_more_steps_and_a_schedule_to_the_last_step_is_refused(tmp_path: Path) -> None:
    def go_to(steps: int, name: str, *more: object) -> Outcome:
        return command(
            "train_gan", *tiny("train_gan", *QUICK_TO_COMPILE, "--gan.steps", steps, "--out", tmp_path / name, *more)
        )

    assert [go_to(20, "parts").code, go_to(40, "whole").code] == [0, 0]
    assert go_to(40, "parts", "--resume").code == 0
    assert_same(final_states(tmp_path / "parts"), final_states(tmp_path / "whole"))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert read_config(tmp_path / "parts") == read_config(tmp_path / "whole")
    refused = go_to(60, "parts", "--resume", "--gan.final-learning-rate", 0.5)
    assert "options.gan.final_learning_rate: 1.0 there, 0.5 here" in refused.err
    assert "another length" in go_to(20, "parts", "--resume").err


def test_a_diverging_run_ends_in_one_paragraph_with_its_last_good_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = tiny("train_gan", *QUICK_TO_COMPILE, "--gan.learning-rate", 1e18, "--out", out)
    code, stdout, err = command("train_gan", *arguments)
    assert code == 2
    assert without_progress(stdout) == []
    alarms = (
        r"Alarm: non-finite begins at step 5, member 0 \(.*\w+.*\)\.\nAlarm: non-finite parameters .* \(\.\w.*\)\.\n"
    )
    message = (
        r"error: gan: \w+ became (nan|inf|-inf) at step \d+\. Of its state, \.\w.* not finite at step 5\. Training "
    )
    assert re.fullmatch(alarms + message + r"stopped; .*\n", err)
    assert not (out / "summary.json").exists()
