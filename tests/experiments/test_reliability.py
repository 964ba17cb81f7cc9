"""The command that counts: where its own process computes, and what it leaves."""

import json
from pathlib import Path

import jax
import pytest

from experiments import reliability
from saegan_jax.runs.reliability.parts import PARTS, Found


def test_its_own_process_computes_where_the_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def part(asked: object, say: object) -> Found:
        seen.append(jax.config.jax_platforms)
        return Found([], [], "nothing")

    monkeypatch.setitem(PARTS, "soak", part)
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.delenv("JAX_PLATFORMS")
    with monkeypatch.context() as patch:
        patch.setattr(reliability.signals, "continue_with", lambda: None)
        jax.config.update("jax_platforms", None)
        try:
            reliability.run(reliability.Reliability(part="soak", results=tmp_path / "x.json"))
        finally:
            jax.config.update("jax_platforms", "cpu")
    assert seen == ["cpu"]
    assert json.loads((tmp_path / "x.json").read_text())["note"] == "nothing"
