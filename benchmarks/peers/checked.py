"""The peers of one work that compute what we compute, ready to be timed."""

import contextlib
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness.agreement import BFLOAT16, TENSORFLOAT32, Agreement, Peer, agree
from benchmarks.harness.errors import DisagreementError, UnavailableError
from benchmarks.harness.system import reduced_products
from benchmarks.harness.timing import Arm, Say
from benchmarks.peers.registry import Record, not_installed, peers_of
from benchmarks.workloads.work import Reference, Work, start

AGREEMENT_STEPS = 3


class Checked(NamedTuple):
    """The peers of one work.

    Attributes:
      arms: those that compute what we compute.
      agreement: rows of :func:`benchmarks.harness.agreement.agree`.
      not_compared: by arm, the quantities that it does not keep.
      skipped: by arm, why it is left out.
    """

    arms: list[Arm]
    agreement: list[dict[str, Any]]
    not_compared: list[dict[str, Any]]
    skipped: list[dict[str, Any]]


def check(work: Work, record: Record, peer: Peer, pixels: np.ndarray) -> Agreement:
    """Take three steps on both sides and compare; see :func:`benchmarks.harness.agreement.agree`.

    Raises:
      DisagreementError: the peer computes something else.
    """
    places = (t * work.batch_size + np.arange(work.batch_size) for t in range(AGREEMENT_STEPS))
    batches = (pixels[place % len(pixels)] for place in places)
    exact = TENSORFLOAT32 if reduced_products() else work.tolerances
    tolerances = BFLOAT16 if record.dtype == "bfloat16" else exact
    return agree(Reference(work), peer, batches, work=work.name, arm=record.name, tolerances=tolerances)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"


def _arm(record: Record, peer: Peer, agreed: Agreement, flops: float | None) -> Arm:
    compile_s = agreed.first_s if record.first_step_compiles else peer.compile_s()
    return Arm(
        record.name,
        peer.run,
        peer.steps_per_call,
        flops,
        compile_s,
        peak_bytes=peer.peak_bytes(),
        turn=record.turn,
        role="peer",
        dtype=record.dtype,
    )


def built(
    work: Work, record: Record, params: Any, pixels: np.ndarray, closing: contextlib.ExitStack
) -> tuple[Peer, Agreement]:
    """A peer that computes what we compute, which has taken three steps.

    Raises:
      UnavailableError: it cannot be timed here.
      DisagreementError: it computes something else.
    """
    try:
        peer = record.build(work, params, pixels)
        closing.callback(peer.close)
        return peer, check(work, record, peer, pixels)
    except (UnavailableError, DisagreementError):
        raise
    except Exception as error:
        if not record.may_fail:
            raise
        raise UnavailableError(_first_line(error)) from error


def checked(work: Work, pixels: np.ndarray, say: Say, *, quick: bool, closing: contextlib.ExitStack) -> Checked:
    """The installed peers of a work, as arms; they live until ``closing`` does.

    Raises:
      DisagreementError: a peer that computes something else.
    """
    found = Checked([], [], [], [])
    records = [record for record in peers_of(work) if not_installed(record.name) is None]  # the others are named once
    params = start(work).params if records else None
    flops: float | None = None
    for record in records:
        about = {"work": work.name, "arm": record.name}
        if quick and not record.quick:
            found.skipped.append({**about, "reason": "a quick run leaves it out; it compiles for a minute."})
            continue
        say(f"{record.name}: checking that it agrees")
        try:
            peer, agreed = built(work, record, params, pixels, closing)
        except UnavailableError as error:
            found.skipped.append({**about, "reason": str(error)})
            continue
        found.agreement.extend(agreed.rows)
        if agreed.absent:
            found.not_compared.append({**about, "quantities": agreed.absent})
        # Every peer's products and convolutions are those of PyTorch's eager step, the first: the same training needs them.
        flops = peer.flops() or flops
        found.arms.append(_arm(record, peer, agreed, flops))
    return found
