"""Reading the text of an optimised HLO module: computations, instructions, shapes."""

import math
import re
from typing import NamedTuple

_BITS = {"pred": 8, "token": 0, "opaque": 0, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([0-9,<=]*)\]")
_HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s*\(.*->.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT\s+)?%?([\w.\-]+) = (.*)$")
_SOURCE = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_TRIPS = re.compile(r'"?known_trip_count"?:\{"?n"?:"?(\d+)')
_CALLED = re.compile(r"\b(calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      name, opcode: of the instruction.
      shape: of its result, as text; see :func:`arrays`.
      operands: names of the instructions that it reads.
      inside: the text between the parentheses, of a constant its value.
      attributes: what follows the operands.
      root: whether its result is the computation's.
    """

    name: str
    shape: str
    opcode: str
    operands: list[str]
    inside: str
    attributes: str
    root: bool

    def called(self) -> dict[str, str]:
        """The computations that it calls, by their role."""
        return dict(_CALLED.findall(self.attributes))

    def branches(self) -> list[str]:
        """The computations of a conditional's branches."""
        listed = _BRANCHES.search(self.attributes)
        names = re.findall(r"[\w.\-]+", listed[1]) if listed else []
        called = self.called()
        return names or [called["true_computation"], called["false_computation"]]

    def trips(self) -> float | None:
        """How often a loop runs, where XLA knows it."""
        found = _TRIPS.search(self.attributes)
        return float(found[1]) if found else None

    def source(self) -> str:
        """Where in the Python program it comes from."""
        return "".join(_SOURCE.findall(self.attributes)[:1])

    def target(self) -> str:
        """The library function of a custom call."""
        return "".join(_TARGET.findall(self.attributes))


Computation = dict[str, Instruction]


def _closing(text: str, start: int) -> int:
    """Position of the parenthesis that closes the one at ``start``."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"unbalanced parentheses in the program text: {text[:200]}")


def _instruction(match: re.Match[str], known: Computation) -> Instruction:
    rest = re.sub(r"/\*.*?\*/", "", match[3])
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing]
    names = re.findall(r"[A-Za-z_][\w.\-]*", inside)
    # A constant's literal or an operand's type is no name of an instruction.
    operands = [name for name in names if name in known]
    return Instruction(match[2], shape, rest[:opening], operands, inside, rest[closing + 1 :], bool(match[1]))


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """All computations by name, and the entry's name.

    Raises:
      ValueError: the text of something else.
    """
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current[match[2]] = _instruction(match, current)
    if not entry:
        raise ValueError("the program text has no ENTRY computation; it is not that of an optimised HLO module.")
    return computations, entry


def arrays(shape: str) -> list[tuple[str, list[int]]]:
    """Element type and dimensions of an array, or of all arrays of a tuple."""
    return [(kind, [int(re.sub(r"\D", "", d)) for d in dims.split(",") if d]) for kind, dims in _ARRAY.findall(shape)]


def dimensions(shape: str) -> list[int]:
    """Dimensions of an array, or of the first array of a tuple; none of what has no array."""
    found = arrays(shape)
    return found[0][1] if found else []


def elements(shape: str) -> int:
    """Elements of an array, or of the first array of a tuple."""
    return math.prod(dimensions(shape)) if arrays(shape) else 0


def sizes(shape: str) -> list[float]:
    """Bytes of an array, or of each array of a tuple."""
    return [
        math.prod(dims) * (_BITS[kind] if kind in _BITS else int((re.findall(r"\d+", kind) or ["0"])[0])) / 8
        for kind, dims in arrays(shape)
    ]


def size(shape: str) -> float:
    """Bytes of an array, or of all arrays of a tuple."""
    return sum(sizes(shape))


def numbers(pattern: str, text: str) -> list[int]:
    """The numbers in the first group of ``pattern``'s first match."""
    match = re.search(pattern, text)
    return [int(d) for d in re.findall(r"\d+", match[1])] if match else []
