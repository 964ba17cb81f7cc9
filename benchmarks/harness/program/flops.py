"""Operations and kinds of single instructions."""

import math
import re
from collections.abc import Callable, Mapping

import numpy as np

from saegan_jax.hlo import Instruction, arrays, dimensions, elements, numbers

KINDS = (
    "convolution",
    "dot",
    "sort",
    "custom-call",
    "collective",
    "rng",
    "scatter",
    "gather",
    "window",
    "reduce",
    "elementwise",
    "integer",
    "movement",
)
"""Kinds of operations; a fusion is of the first kind that one of its instructions has."""
_FREE = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id",
    "replica-id", "domain",
})  # fmt: skip
_TRANSCENDENTAL = frozenset({
    "exponential", "exponential-minus-one", "log", "log-plus-one", "logistic", "power", "sqrt", "rsqrt", "cbrt",
    "tanh", "tan", "sine", "cosine", "erf", "atan2",
})  # fmt: skip
_ELEMENTWISE = frozenset({
    "abs", "add", "and", "ceil", "clamp", "clz", "count-leading-zeros", "compare", "convert", "divide", "floor",
    "is-finite", "maximum", "minimum", "multiply", "negate", "not", "or", "popcnt", "remainder",
    "round-nearest-afz", "round-nearest-even", "select", "shift-left", "shift-right-arithmetic",
    "shift-right-logical", "sign", "subtract", "xor", "stochastic-convert",
})  # fmt: skip
_KIND = {
    **dict.fromkeys(("reduce-window", "select-and-scatter"), "window"),
    **dict.fromkeys(("sort", "topk"), "sort"),
    **dict.fromkeys(("rng", "rng-bit-generator", "rng-get-and-update-state"), "rng"),
    **{name: name for name in ("convolution", "dot", "gather", "scatter", "reduce", "custom-call")},
}
_LIBRARY_KIND = {"conv": "convolution", "gemm": "dot", "matmul": "dot", "topk": "sort", "sort": "sort"}
_CUDNN = {
    "Forward": (0, 1, None),
    "BackwardInput": (None, 1, 0),
    "BackwardFilter": (0, None, 1),
}
"""Which operand is the image, the kernel and the output of a convolution; None is the result."""


def kind(one: Instruction) -> str | None:
    """The kind of an instruction that is no fusion; None of one that the machine does nothing for."""
    if one.opcode in _FREE:
        return None
    if one.opcode in _TRANSCENDENTAL or one.opcode in _ELEMENTWISE:
        return "elementwise" if re.match(r"\(?(f|bf|c)\d", one.shape) or one.opcode == "compare" else "integer"
    if one.opcode == "custom-call":
        target = one.target().lower()
        return next((kind for word, kind in _LIBRARY_KIND.items() if word in target), "custom-call")
    if re.match(r"all-|collective-|reduce-scatter|send|recv", one.opcode):
        return "collective"
    return _KIND.get(one.opcode, "movement")


def _met(sizes: tuple[int, int, int], window: tuple[int, int, int, int]) -> int:
    """Pairs of a kernel's and an image's element that meet along one axis; zeros of padding and dilation do not.

    Args:
      sizes: of image, kernel and output along the axis.
      window: see :func:`_windows`.
    """
    (size, kernel, out), (stride, spread, holes, low) = sizes, window
    at = np.arange(out)[:, None] * stride + np.arange(kernel)[None] * holes - low
    return int(((at >= 0) & (at <= (size - 1) * spread) & (at % spread == 0)).sum())


def _windows(attributes: str, axes: int) -> list[tuple[int, int, int, int]]:
    """Stride, dilation of the image, dilation of the kernel and padding before it, of each spatial axis."""
    window = re.search(r"window=\{([^}]*)\}", attributes)
    given = dict(part.split("=", 1) for part in window[1].split()) if window else {}
    names = ("stride", "lhs_dilate", "rhs_dilate")
    columns = [[int(v) for v in given[name].split("x")] if name in given else [1] * axes for name in names]
    pads = [int(v.split("_")[0]) for v in given["pad"].split("x")] if "pad" in given else [0] * axes
    return [(columns[0][i], columns[1][i], columns[2][i], pads[i]) for i in range(axes)]


def convolution_flops(attributes: str, image: list[int], kernel: list[int], out: list[int]) -> float:
    """Two operations for each pair of a kernel's and an image's element that meet."""
    labels = re.search(r"dim_labels=([^_,]+)_([^-]+)->(\w+)", attributes)
    if labels is None:
        return 0.0
    spatial = sorted(label for label in labels[1] if label.isdigit())
    met = 1
    for label, window in zip(spatial, _windows(attributes, len(spatial)), strict=True):
        places = [names.index(label) for names in labels.groups()]
        met *= _met((image[places[0]], kernel[places[1]], out[places[2]]), window)
    batch, features = out[labels[3].index("b")], out[labels[3].index("f")]
    groups = max(1, *numbers(r"batch_group_count=(\d+)", attributes), 1)
    return 2.0 * batch * features * kernel[labels[2].index("i")] * met / groups


Dims = list[list[int]]


def _dot(one: Instruction, dims: Dims, applied: float) -> float:
    contracted = numbers(r"lhs_contracting_dims=\{([^}]*)\}", one.attributes)
    return 2.0 * elements(one.shape) * math.prod(dims[0][i] for i in contracted)


def _convolution(one: Instruction, dims: Dims, applied: float) -> float:
    return convolution_flops(one.attributes, dims[0], dims[1], dimensions(one.shape))


def _reduce(one: Instruction, dims: Dims, applied: float) -> float:
    return (math.prod(dims[0]) - elements(one.shape)) * applied


def _reduce_window(one: Instruction, dims: Dims, applied: float) -> float:
    window = re.search(r"size=([\dx]+)", one.attributes)
    return elements(one.shape) * applied * (math.prod(map(int, window[1].split("x"))) - 1 if window else 0)


def _scatter(one: Instruction, dims: Dims, applied: float) -> float:
    return math.prod(dims[-1]) * applied if dims else 0.0


def _sort(one: Instruction, dims: Dims, applied: float) -> float:
    n = math.prod(dims[0])
    return float(n * max(1, math.ceil(math.log2(max(2, n)))))


def _custom_call(one: Instruction, dims: Dims, applied: float) -> float:
    """Convolutions and products that a library computes."""
    results, target = [d for _, d in arrays(one.shape)], one.target()
    for way, roles in _CUDNN.items():
        if target.endswith(f"conv{way}"):
            return convolution_flops(one.attributes, *(results[0] if r is None else dims[r] for r in roles))
    if not re.search(r"gemm|matmul", target, re.IGNORECASE):
        return 0.0
    contracted = numbers(r'"lhs_contracting_dimensions":\[([^\]]*)\]', one.attributes)
    width = math.prod(dims[0][i] for i in contracted) if contracted else dims[0][-1]
    return 2.0 * math.prod(results[0]) * width


_FLOPS: dict[str, Callable[[Instruction, Dims, float], float]] = {
    "dot": _dot,
    "convolution": _convolution,
    "reduce": _reduce,
    "reduce-window": _reduce_window,
    "scatter": _scatter,
    "sort": _sort,
    "custom-call": _custom_call,
}


def flops(one: Instruction, shapes: Mapping[str, str], applied: float) -> float:
    """Operations of one instruction that is no fusion; ``applied`` are those of the computation that it applies."""
    if one.opcode in _ELEMENTWISE:
        return float(elements(one.shape))
    count = _FLOPS.get(one.opcode)
    return count(one, [dimensions(shapes[name]) for name in one.operands], applied) if count else 0.0
