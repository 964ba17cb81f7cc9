"""Alarms on sequences made by hand: when each begins and ends, for whom, and that a resumed watch tells the same."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from saegan_jax.runs.session import mean_image_error
from saegan_jax.training.alarms import Alarms
from saegan_jax.training.writers import Display, MetricsWriter, read_alarms

NAN, INF = math.nan, math.inf


def told(alarms: Alarms) -> list[tuple[int, int, str, str]]:
    return [(e["step"], e["member"], e["kind"], e["state"]) for e in alarms.events]


def watch(*columns: list[float], name: str, alarms: Alarms | None = None, every: int = 10) -> Alarms:
    """Log ``name``, one column a member."""
    alarms = Alarms() if alarms is None else alarms
    for i, values in enumerate(zip(*columns, strict=True)):
        alarms.log(every * (i + 1), {name: list(values)})
    return alarms


def test_nothing_is_told_of_a_sound_training() -> None:
    alarms = Alarms()
    for i in range(50):
        alarms.log(i, {"discriminator_loss": [1.0, 0.7], "generator_loss": [-5.0, 9.0], "accuracy": [0.99, 0.5]})
        alarms.score(i, {"class_balance_kl": [0.4, 0.0], "recall": [0.5, 0.08], "frechet": [1e9, 3.0]}, {"recall": 0.7})
    assert alarms.events == alarms.active == []


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_not_finite_begins_at_once_for_its_member_and_ends(bad: float) -> None:
    said: list[str] = []
    alarms = watch([1, 1, bad, bad, 1], [1, 1, 1, 1, 1], name="r1", alarms=Alarms(said.append))
    assert told(alarms) == [(30, 0, "non-finite", "begins"), (50, 0, "non-finite", "ends")]
    assert said[0] == "Alarm: non-finite begins at step 30, member 0 (r1)."
    assert said[1].startswith("Alarm: non-finite ends at step 50, member 0")
    assert len(said) == 2
    assert alarms.active == []


def test_broken_parameters_begin_once_for_their_member_and_do_not_end() -> None:
    alarms = Alarms()
    for step, bad in (
        (10, ["", "", ""]),
        (20, ["", ".params['w']", ""]),
        (30, ["", ".params['w']", ""]),
        (40, [""] * 3),
    ):
        alarms.broken(step, bad)
    assert told(alarms) == [(20, 1, "non-finite parameters", "begins")]
    assert alarms.events[0]["what"] == ".params['w']"


def test_a_broken_members_other_numbers_are_not_judged() -> None:
    alarms = Alarms()
    for i in range(20):
        alarms.log(i, {"discriminator_loss": [NAN, 1.0], "accuracy": [1.0, 0.5]})
    assert told(alarms) == [(0, 0, "non-finite", "begins")]


@pytest.mark.parametrize(("name", "short"), [("discriminator_loss", "discriminator"), ("generator_loss", "generator")])
@pytest.mark.parametrize("sign", [1, -1])
def test_divergence_is_ten_times_the_largest_of_the_first_ten(name: str, short: str, sign: int) -> None:
    first = [1.0, 3.0, *[0.5] * 8]  # the largest is 3: above 30 it diverges
    values = [*first, 29.9, 30.1, 1000.0, 30.0, 31.0]
    alarms = watch([sign * v for v in values], [1.0] * 15, name=name)
    kind = f"divergence of the {short}"
    assert told(alarms) == [(120, 0, kind, "begins"), (140, 0, kind, "ends"), (150, 0, kind, "begins")]
    assert [e["value"] for e in alarms.events] == [30.1, 30.0, 31.0]
    assert alarms.active == [kind]


def test_a_small_loss_may_grow_to_ten_and_other_quantities_as_they_like() -> None:
    small = [0.01] * 10
    assert told(watch([*small, 9.9, 10.1], name="generator_loss")) == [
        (120, 0, "divergence of the generator", "begins")
    ]
    assert watch([*small, 1e9], name="r1").events == []
    assert watch([1e9, *small], name="generator_loss").events == []  # the first ones are what is compared with


def test_saturation_needs_five_intervals_in_a_row_and_ends_with_the_first_other() -> None:
    alarms = watch(
        [1, 1, 1, 1, 0.99, 1, 1, 1, 1, 1, 1, 0.996, 0.995, 1],
        [0.5] * 14,
        [1] * 14,
        name="accuracy",
    )
    assert told(alarms) == [
        (50, 2, "saturation", "begins"),
        (100, 0, "saturation", "begins"),
        (130, 0, "saturation", "ends"),
    ]
    assert alarms.active == ["saturation"]


def test_active_counts_members() -> None:
    alarms = watch([NAN], [1.0], [NAN], [NAN], name="r1")
    alarms.score(5, {"recall": [0.0, 0.5, 0.5, 0.5]}, {"recall": 0.5})
    assert alarms.active == ["collapse of recall", "non-finite (3)"]


@pytest.mark.parametrize(
    ("name", "floor", "sound", "bad"),
    [
        ("class_balance_kl", 0.2, 0.69, 0.71),  # .5 above the floor
        ("recall", 0.6, 0.061, 0.059),  # a tenth of the floor
        ("modes", 25.0, 13.0, 12.0),  # half of those there are
    ],
)
def test_collapse_is_judged_against_the_floor_and_passes(name: str, floor: float, sound: float, bad: float) -> None:
    alarms = Alarms(judged_from=30)
    kind = "collapse of " + {"class_balance_kl": "classes"}.get(name, name)
    for step, value in ((10, bad), (29, bad), (30, sound), (40, bad), (50, bad), (60, sound), (70, NAN)):
        alarms.score(step, {name: [sound, value]}, {name: floor})
    want = [(40, 1, kind, "begins"), (60, 1, kind, "ends"), (70, 1, kind, "begins")]
    assert told(alarms) == want  # nothing before step 30: every generator begins collapsed
    first = Alarms(judged_from=30)
    first.score(30, {name: [bad]}, {name: floor})
    assert told(first) == [(30, 0, kind, "begins")]


def story() -> tuple[list[dict[str, Any]], dict[int, list[float]]]:
    """Rows of two members in which everything happens, and looks at their recall by step."""
    rows = []
    for i in range(1, 31):
        rows.append(
            {
                "phase": "gan",
                "step": 10 * i,
                "discriminator_loss": [1.0 + 0.1 * i, 50.0 if i in (14, 15, 22) else 0.3],
                "generator_loss": [NAN if i in (3, 4, 25) else 2.0, 2.0],
                "accuracy": [1.0 if 5 <= i < 18 else 0.5, 1.0 if i > 11 and i % 7 else 0.7],
                "steps_per_second": NAN if i == 2 else 5.0,  # no quantity of the training
            }
        )
    return rows, {50: [0.0, 0.5], 100: [0.0, 0.0], 150: [0.0, 0.4], 200: [0.3, 0.4], 250: [0.3, NAN], 300: [0.3, 0.3]}


def tell(alarms: Alarms, after: int, until: int) -> None:
    rows, looks = story()
    for row in rows:
        step = row["step"]
        if after < step <= until:
            alarms.log(step, {k: v for k, v in row.items() if k not in ("phase", "step", "steps_per_second")})
            if step in looks:
                alarms.score(step, {"recall": looks[step]}, {"recall": 0.6})


@pytest.mark.parametrize("cut", [0, 30, 40, 80, 100, 120, 140, 150, 180, 250, 290])
def test_a_resumed_watch_tells_what_an_undisturbed_one_does(cut: int) -> None:
    whole, before, after = (Alarms(judged_from=60) for _ in range(3))
    tell(whole, 0, 300)
    tell(before, 0, cut)
    # As they lie on disk.
    events = [{"phase": "gan", **json.loads(json.dumps(event))} for event in before.events]
    rows = [json.loads(json.dumps(row)) for row in story()[0] if row["step"] <= cut]
    after.restore(events, rows)
    assert after.active == before.active
    assert told(after) == told(before)  # restoring tells nothing new
    tell(after, cut, 300)
    assert told(after) == told(whole)
    assert after.active == whole.active
    kinds = {kind for _, _, kind, _ in told(whole)}
    assert kinds == {"non-finite", "divergence of the discriminator", "saturation", "collapse of recall"}
    assert len(told(whole)) >= 12


def test_rows_of_a_single_member_are_numbers() -> None:
    after = Alarms()
    after.restore([], [{"phase": "gan", "step": i, "accuracy": 1.0, "steps_per_second": 3.0} for i in range(4)])
    after.log(4, {"accuracy": [1.0]})
    assert told(after) == [(4, 0, "saturation", "begins")]


# Where they go


def test_alarms_lie_on_disk_by_phase_and_those_past_a_step_are_forgotten(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    alarms = watch([1, NAN, 1], name="r1")
    for phase in ("sae", "gan"):
        for event in alarms.events:
            writer.alarm(phase, event)
    begins = {"step": 20, "member": 0, "kind": "non-finite", "state": "begins"}
    first = next(e for e in read_alarms(tmp_path) if e["phase"] == "gan")
    assert {k: first[k] for k in begins} == begins
    assert len(read_alarms(tmp_path)) == 4
    writer.forget_after("gan", 20)
    left = [(e["phase"], e["step"]) for e in read_alarms(tmp_path)]
    assert left == [("sae", 20), ("sae", 30), ("gan", 20)]
    writer.close()


def test_the_display_shows_alarms_before_all_numbers() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=160, color_system=None)
    display = Display(console)
    display.start("gan", 0, 10)
    display.update(5, 3.0, {"accuracy": [0.5, 0.7]}, ("accuracy",), alarms=["saturation", "non-finite (2)"])
    display.update(5, 3.0, {"accuracy": [0.5, 0.7]}, ("accuracy",), alarms=["saturation", "non-finite (2)"])
    display.stop()
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "SATURATION  NON-FINITE (2)  accuracy 0.6" in text
    quiet = Console(file=io.StringIO(), force_terminal=True, width=160, color_system=None)
    display = Display(quiet)
    display.start("gan", 0, 10)
    display.update(5, 3.0, {"accuracy": 0.5}, ("accuracy",))
    display.stop()
    assert "  accuracy 0.5" not in quiet.file.getvalue()  # type: ignore[attr-defined]
    assert "accuracy 0.5" in quiet.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["reconstruction", "log_likelihood", "cycle"])
def test_losses_of_other_systems_diverge_too(name: str) -> None:
    alarms = watch([-3.0] * 10 + [-31.0, -3.0], name=name)
    kind = f"divergence of the {name.replace('_', ' ')}"
    assert told(alarms) == [(110, 0, kind, "begins"), (120, 0, kind, "ends")]


def test_an_autoencoder_worse_than_the_mean_image_is_told() -> None:
    alarms = watch(
        [9.0] * 12 + [1.0],
        [1.0] * 13,
        name="reconstruction",
        alarms=Alarms(judged_from=40, trivial={"reconstruction": 2.0}),
    )
    kind = "reconstruction worse than that of the mean image"
    # Judged from step 40, and bad for five intervals at step 80.
    assert told(alarms) == [(80, 0, kind, "begins"), (130, 0, kind, "ends")]


def test_the_error_of_the_mean_image() -> None:
    images = np.zeros((4, 1, 2, 1), np.uint8)
    images[:2, 0, 0] = 255  # variance 1/4
    assert mean_image_error(images) == 0.125
