"""Where the numbers of a run go."""

import io
import json
import math
import struct
import time
from pathlib import Path

import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from saegan_jax.errors import ConfigError
from saegan_jax.training import writers
from saegan_jax.training.busy import LINE_EVERY
from saegan_jax.training.writers import Display, MetricsWriter, Rate, read_metrics, warn


def rows(folder: Path) -> list[tuple[str, int]]:
    return [(row["phase"], row["step"]) for row in read_metrics(folder)]


def events(folder: Path) -> dict[tuple[str, int], float]:
    """Scalars by tag and step, from the files' records: length, checksum, event, checksum."""
    scalars = {}
    for file in sorted((folder / "tensorboard").iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack("<Q", content[at : at + 8])
            event = Event.FromString(content[at + 12 : at + 12 + length])
            scalars.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
            at += 16 + length
    return scalars


def test_rows_and_events_hold_every_number(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write("sae", 5, {"loss": 0.5, "l0": 3.0})
    writer.write("gan", 5, {"loss": [1.0, 2.0]})
    writer.close()
    assert read_metrics(tmp_path) == [
        {"phase": "sae", "step": 5, "loss": 0.5, "l0": 3.0},
        {"phase": "gan", "step": 5, "loss": [1.0, 2.0]},
    ]
    assert events(tmp_path) == {
        ("sae/loss", 5): 0.5,
        ("sae/l0", 5): 3.0,
        ("gan/loss/seed_0", 5): 1.0,
        ("gan/loss/seed_1", 5): 2.0,
    }


def test_rows_are_on_disk_at_once(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write("sae", 5, {"loss": 0.5})
    assert rows(tmp_path) == [("sae", 5)]  # not closed: a kill loses nothing
    writer.close()
    writer.close()


def test_a_resumed_run_writes_each_step_once(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    for phase, step in (("sae", 5), ("sae", 10), ("gan", 5), ("gan", 10), ("gan", 15)):
        writer.write(phase, step, {"loss": 0.0})
    writer.forget_after("gan", 5)
    assert rows(tmp_path) == [("sae", 5), ("sae", 10), ("gan", 5)]
    writer.write("gan", 10, {"loss": 1.0})
    writer.close()
    assert rows(tmp_path) == [("sae", 5), ("sae", 10), ("gan", 5), ("gan", 10)]
    assert events(tmp_path)["gan/loss", 10] == 1.0


def test_a_line_cut_short_by_a_kill_is_dropped_and_mended(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    assert read_metrics(tmp_path) == []
    writer.forget_after("sae", 0)
    assert read_metrics(tmp_path) == []
    writer.write("sae", 5, {"loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "sae", "step": 10, "lo')
    assert rows(tmp_path) == [("sae", 5)]
    writer.forget_after("sae", 5)
    writer.write("sae", 10, {"loss": 0.25})
    writer.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("3", "3"),
        ("[1, 2]", r"\[1, 2\]"),
        ('{"phase": "sae"}', '{"phase": "sae"}'),
        ('{"step": 7}', '{"step": 7}'),
        ('{"phase": "sae", "step": 7, "lo', '{"phase": "sae", "step": 7, "lo'),
        ("\udcff", "."),
    ],
)
def test_a_bad_line_among_others_is_named_and_nothing_is_dropped(line: str, shown: str, tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    for step in (5, 10):
        writer.write("sae", step, {"loss": 0.5})
        writer.alarm("sae", {"step": step})
    for name in ("metrics.jsonl", "alarms.jsonl"):
        file = tmp_path / name
        whole = file.read_bytes()
        first, second = whole.splitlines(keepends=True)
        file.write_bytes(first + line.encode(errors="surrogateescape") + b"\n" + second)
        before = {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
        message = rf"^{name} = '.*{name}' cannot be used: line 2 is no row with a phase and a step \('{shown}.*'\)"
        with pytest.raises(ConfigError, match=message):
            writer.forget_after("sae", 5)
        assert {path: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
        file.write_bytes(whole)
    writer.close()


def test_a_last_line_that_is_json_but_no_row_was_not_cut_short_by_a_kill(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"phase": "sae", "step": 5}\n3\n')
    with pytest.raises(ConfigError, match="line 2 is no row"):
        read_metrics(tmp_path)
    # Blank lines hold nothing that could be lost, and a row may lack its line break.
    (tmp_path / "metrics.jsonl").write_text('\n{"phase": "sae", "step": 5}\n\n{"phase": "sae", "step": 6}')
    assert rows(tmp_path) == [("sae", 5), ("sae", 6)]


def test_numbers_that_are_not_finite_are_null_and_named_and_read_again(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    writer.write("gan", 5, {"loss": [1.0, math.nan], "size": -math.inf, "good": 2.0})
    writer.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail) == {
        "phase": "gan", "step": 5, "loss": [1.0, None], "size": None, "good": 2.0,
        "non_finite": {"loss[1]": "nan", "size": "-inf"},
    }  # fmt: skip
    (row,) = read_metrics(tmp_path)
    assert math.isnan(row["loss"][1])
    assert row["size"] == -math.inf
    assert "non_finite" not in row
    before = (tmp_path / "metrics.jsonl").read_bytes()
    writer.forget_after("gan", 5)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_nan_written_by_an_older_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"phase": "gan", "step": 5, "loss": NaN}\n')
    assert math.isnan(read_metrics(tmp_path)[0]["loss"])


def show(display: Display) -> None:
    display.start("gan", 10, 40)
    display.update(20, 12.345, {"loss": [1.0, 3.0], "hidden": 9.0}, ("loss",))
    display.stop()


def lines_of(out: io.StringIO, *, at_least: int) -> list[str]:
    deadline = time.monotonic() + 30
    while len(lines := out.getvalue().splitlines()) < at_least:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return lines


def test_without_a_terminal_there_is_a_plain_line_now_and_then() -> None:
    out = io.StringIO()
    display = Display(Console(file=out, width=20), every=0.02)
    display.start("gan", 1000, 40000)
    assert set(lines_of(out, at_least=2)) == {"gan: step 1,000 of 40,000, compiling"}
    display.update(2000, 10.0, {"loss": [1.0, 3.0], "hidden": 9.0}, ("loss",), alarms=["saturation"])
    shown = lines_of(out, at_least=len(out.getvalue().splitlines()) + 2)[-1]
    assert shown == "gan: step 2,000 of 40,000, SATURATION  loss 2, 10 steps/s, 1:03:20 left"
    display.start("second", 0, 10)
    count = len(out.getvalue().splitlines())
    assert lines_of(out, at_least=count + 2)[-1] == "second: step 0 of 10, compiling"
    display.end()
    last = out.getvalue()
    time.sleep(0.1)
    assert out.getvalue() == last
    display.stop()
    display.stop()
    assert LINE_EVERY == 30


def test_the_display_is_silent_at_first_unless_on_a_terminal() -> None:
    quiet, loud = io.StringIO(), io.StringIO()
    show(Display(Console(file=quiet)))
    assert quiet.getvalue() == ""
    show(Display(Console(file=loud, force_terminal=True, width=120)))
    shown = loud.getvalue()
    for part in ("gan", "20/40", "12.3 steps/s", "loss 2"):
        assert part in shown
    assert "hidden" not in shown


def test_scores_are_shown_behind_the_numbers_until_the_phase_ends() -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=120, color_system=None))
    display.start("gan", 0, 2000)
    display.scores(1000, {"kept": [0.5, 0.7], "other": [1.0, 1.0]}, ("kept", "missing"))
    display.update(1000, 3.0, {"loss": 2.0}, ("loss",))
    display.stop()
    assert "loss 2  kept 0.6 at 1,000" in out.getvalue()
    assert "other" not in out.getvalue()
    out.truncate(0)
    display.start("next", 0, 10)
    display.update(5, 3.0, {"loss": 2.0}, ("loss",))
    display.stop()
    assert "loss 2" in out.getvalue()
    assert "kept" not in out.getvalue().split("next")[-1]


def test_a_display_that_was_stopped_starts_again() -> None:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=120))
    show(display)
    out.truncate(0)
    display.start("second", 0, 10)
    display.stop()
    display.stop()
    assert "second" in out.getvalue()


def test_warnings_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    warn("install saegan_jax[prepare], or see [/tmp/x]")
    assert capsys.readouterr() == ("", "install saegan_jax[prepare], or see [/tmp/x]\n")


def test_the_rate_is_that_since_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 102.0, 102.5])
    monkeypatch.setattr(writers.time, "perf_counter", lambda: next(times))
    rate = Rate(50)
    assert rate(60) == pytest.approx(5)
    assert rate(70) == pytest.approx(20)
