"""What goes wrong in a training, reported while it happens and kept on record.

An alarm has a beginning and, where the trouble passes, an end; both are written down, so that a good last checkpoint
cannot hide a bad stretch before it. Nothing here stops a training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SATURATED = 0.995  # share of pairs that the critic orders rightly: the generator's gradient has all but vanished
PATIENCE = 5  # logging intervals in a row; one can be chance
GREW = 10.0  # times the largest loss of the first intervals, and at least this many nats
FIRST = 10  # logging intervals that a loss is compared with
IMBALANCE = 0.5  # nats of class balance KL over the floor: about six of ten classes in equal shares
RECALL = 0.1  # share of the floor's recall
MODES = 0.5  # share of the modes there are
STARVED = 0.05  # share of a logging interval that the device waited for data

LOSSES = {
    "discriminator_loss": "discriminator",
    "generator_loss": "generator",
    "reconstruction": "reconstruction",
    "log_likelihood": "log likelihood",
    "cycle": "cycle",
}
"""Means that fall in size in a sound training, and their names in alarms."""
NOT_MEANS = ("phase", "step", "steps_per_second", "data_wait")  # of a row of metrics: these are no member's

Values = Mapping[str, list[float]]


@dataclass
class Alarms:
    """Watches every member's numbers.

    Attributes:
      notify: called with one sentence at each beginning and end.
      judged_from: the first step whose scores are judged: every generator begins collapsed.
      record: called with each new event.
      trivial: by name, the value of a mean that a model without any parameters reaches, such as the error of the mean image.
      events: ``{"step", "member", "kind", "state": "begins" | "ends", "value"}``, in order; ``member`` is None of what
        concerns them all; ``what``, where a name is known of it.
    """

    notify: Callable[[str], None] = lambda text: None
    judged_from: int = 0
    record: Callable[[dict[str, Any]], None] = lambda event: None
    trivial: Mapping[str, float] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    _open: set[tuple[str, int | None]] = field(default_factory=set)
    _streak: dict[tuple[str, int], int] = field(default_factory=dict)
    _largest: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def restore(self, events: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
        """Take up a resumed training: the alarms so far, and its logged rows, which give the first losses again."""
        self.events = list(events)
        for event in events:
            change = self._open.add if event["state"] == "begins" else self._open.discard
            change((event["kind"], event["member"]))
        quiet = Alarms(judged_from=self.judged_from, trivial=self.trivial)
        for row in rows:
            means = {k: v for k, v in row.items() if k not in NOT_MEANS}
            quiet.log(row["step"], {k: np.atleast_1d(v).tolist() for k, v in means.items()})
        self._streak, self._largest = quiet._streak, quiet._largest

    @property
    def active(self) -> list[str]:
        """Kinds that have begun and not ended, with the number of members: ``"saturation"``, ``"collapse (3)"``."""
        kinds = sorted({kind for kind, _ in self._open})
        counts = {kind: sum(k == kind for k, _ in self._open) for kind in kinds}
        return [kind if n == 1 else f"{kind} ({n})" for kind, n in counts.items()]

    def log(self, step: int, means: Values) -> None:
        """Means over one logging interval, one value a member.

        non-finite: any value is not a finite number. divergence: the absolute value of one of :data:`LOSSES` is above ten
        times its largest over the first intervals, and above ten. saturation: in five intervals in a row the critic ordered
        practically every pair rightly. worse than trivial: from the first quarter of the training on, in five intervals in a
        row a value was above that of a model without parameters.
        """
        finite = np.all([np.isfinite(values) for values in means.values()], axis=0)
        for m, sound in enumerate(finite.tolist()):
            bad = [name for name, values in means.items() if not np.isfinite(values[m])]
            self._set("non-finite", m, step, not sound, float("nan"), what=", ".join(bad) or None)
            if not sound:
                continue
            for name in (name for name in LOSSES if name in means):
                self._divergence(name, m, step, abs(means[name][m]))
            if "accuracy" in means:
                self._lasting("saturation", m, step, means["accuracy"][m] > SATURATED, means["accuracy"][m])
            for name in self.trivial if step >= self.judged_from else ():
                value = means[name][m]
                self._lasting(f"{name} worse than that of the mean image", m, step, value > self.trivial[name], value)

    def feed(self, step: int, wait: float) -> None:
        """starvation: the device waited for data for more than 5 % of a logging interval; ``wait`` is that share."""
        self._set("starvation", None, step, wait > STARVED, wait)

    def broken(self, step: int, leaves: list[str]) -> None:
        """Members whose parameters or optimiser statistics are not all finite. It does not end.

        Args:
          step: of the state.
          leaves: one text a member: what of its state is not finite; empty where all is.
        """
        for m, leaf in enumerate(leaves):
            if leaf:
                self._set("non-finite parameters", m, step, True, float("nan"), what=leaf)

    def score(self, step: int, scores: Values, floors: Mapping[str, float]) -> None:
        """Scores of samples, one value a member.

        collapse: the classes drawn are far from those of the data, or hardly any real example lies among the samples
        (recall), or fewer than half of the modes are found.
        """
        if step < self.judged_from:
            return
        for m in range(len(next(iter(scores.values())))):
            if "class_balance_kl" in scores:
                value = scores["class_balance_kl"][m]
                bad = not value <= IMBALANCE + floors.get("class_balance_kl", 0.0)  # true of NaN
                self._set("collapse of classes", m, step, bad, value)
            if "recall" in scores:
                value = scores["recall"][m]
                self._set("collapse of recall", m, step, not value >= RECALL * floors.get("recall", 1.0), value)
            if "modes" in scores:
                value = scores["modes"][m]
                self._set("collapse of modes", m, step, not value >= MODES * floors["modes"], value)

    def _lasting(self, kind: str, member: int, step: int, bad: bool, value: float) -> None:
        self._streak[kind, member] = self._streak.get((kind, member), 0) + 1 if bad else 0
        self._set(kind, member, step, self._streak[kind, member] >= PATIENCE, value)

    def _divergence(self, name: str, member: int, step: int, value: float) -> None:
        first = self._largest.setdefault((name, member), [])
        if len(first) < FIRST:
            first.append(value)
            return
        self._set(f"divergence of the {LOSSES[name]}", member, step, value > max(GREW, GREW * max(first)), value)

    def _set(
        self, kind: str, member: int | None, step: int, bad: bool, value: float, *, what: str | None = None
    ) -> None:
        if bad == ((kind, member) in self._open):
            return
        (self._open.add if bad else self._open.discard)((kind, member))
        state = "begins" if bad else "ends"
        event = {"step": step, "member": member, "kind": kind, "state": state, "value": value}
        self.events.append(event if what is None else event | {"what": what})
        self.record(self.events[-1])
        if member is None:
            self.notify(f"Alarm: {kind} {state} at step {step}; the device waited for data {value:.0%} of the time.")
        else:
            shown = f"{value:.3g}" if what is None else what
            self.notify(f"Alarm: {kind} {state} at step {step}, member {member} ({shown}).")
