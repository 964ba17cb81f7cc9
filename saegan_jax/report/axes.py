"""Numbers on a line: places in per cent and ticks, from which a template draws SVG."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from matplotlib.ticker import Locator, LogLocator, MaxNLocator

_LOG_FROM = 30.0  # largest over smallest positive number, from which a line is logarithmic


class Axis(NamedTuple):
    """A line from ``low`` to ``high``, logarithmic or not."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def over(cls, numbers: Iterable[float | None], *, zero: bool = False) -> "Axis":
        """A line on which all of the finite ``numbers`` lie with a margin; with ``zero`` from 0 where none is negative."""
        found = [float(x) for x in numbers if x is not None and math.isfinite(x)] or [0.0, 1.0]
        low, high = min(found), max(found)
        if low > 0 and high / low > _LOG_FROM:
            return cls(low / 1.15, high * 1.15, log=True)
        margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        if zero and low >= 0:
            return cls(0.0, high + margin)
        return cls(low - margin, high + margin)

    def place(self, x: float) -> float:
        """Where ``x`` lies, in per cent of the line, 0 to 100; what is beyond an end is at it."""
        low, high, at = (math.log(max(v, 1e-300)) if self.log else v for v in (self.low, self.high, x))
        return round(min(max(100 * (at - low) / (high - low), 0.0), 100.0), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts of a few round numbers."""
        decades, halves = (LogLocator(base=10, subs=subs, numticks=9) for subs in ((1.0,), (1.0, 3.0)))
        candidates = (self._inside(one) for one in ((decades, halves) if self.log else (MaxNLocator(4),)))
        shown = next((found for found in candidates if len(found) >= 3), None) or self._inside(MaxNLocator(4))
        return [(self.place(t), f"{t:.6g}") for t in shown]

    def _inside(self, locator: Locator) -> list[float]:
        return [float(t) for t in locator.tick_values(self.low, self.high) if self.low <= t <= self.high]


def number(x: float | None, digits: int = 3) -> str:
    """``x`` to so many digits; a dash where there is none."""
    return "–" if x is None or not math.isfinite(x) else f"{x:.{digits}g}"
