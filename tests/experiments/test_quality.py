"""Training to a quality bar: minutes each, so only with ``pytest -m slow``."""

import json
import os
from pathlib import Path

import pytest
from command_line import command

pytestmark = pytest.mark.slow


def values(folder: Path) -> dict[str, float]:
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    return {name: row["values"][0] for name, row in rows.items()}


def test_main_job_draws_digits(tmp_path: Path) -> None:
    assert command("train_saegan", "--out", tmp_path / "run").code == 0
    found = values(tmp_path / "run")
    assert found["SAE FVU"] < 0.4
    assert found["SAE L0"] <= 2
    assert found["SAE dead units"] < 0.05
    assert found["Frechet / floor"] < 2
    assert found["class balance KL"] < 0.15
    assert found["memorisation"] < 0.58  # real against real 0.505


def test_true_atoms_are_found_without_superposition(tmp_path: Path) -> None:
    arguments = ["--tables", "recovery", "--atoms", "32", "--seeds", "2", "--out", tmp_path / "out"]
    assert command("paper_tables", *arguments, "--results", tmp_path / "papers.json").code == 0
    rows = json.loads((tmp_path / "papers.json").read_text())["rows"]
    cosine = {row["settings"]["variant"]: row["mean"] for row in rows if row["metric"] == "mean cosine"}
    assert cosine["batch_topk"] > 0.95
    assert cosine["l1"] > 0.95


@pytest.mark.skipif(
    "SAEGAN_JAX_MANUAL_DIR" not in os.environ, reason="needs the MNIST files: set SAEGAN_JAX_MANUAL_DIR"
)
def test_plain_gan_draws_mnist(tmp_path: Path) -> None:
    outcome = command("train_gan", "--dataset", "mnist", "--data-dir", tmp_path / "data", "--out", tmp_path / "run")
    assert outcome.code == 0
    found = values(tmp_path / "run")
    assert found["Frechet / floor"] < 15
    assert found["class balance KL"] < 0.1
