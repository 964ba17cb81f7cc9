"""Running the scripts inside this process or in one of their own, and looking at what they left on disk."""

import contextlib
import functools
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import saegan_jax.runs.scores
import saegan_jax.runs.session
from saegan_jax.evaluation.features import FeatureRecipe, load_feature_network

ROOT = Path(__file__).parents[1]
TINY = [
    option.split()
    for option in (
        "--log-every 5",
        "--save-every 10",
        "--picture-every 20",
        "--no-evaluate",
        "--sae.steps 20",
        "--sae.d-sae 8",
        "--sae.batch-size 16",
        "--gan.steps 20",
        "--gan.hidden 8",
        "--gan.d-noise 4",
        "--gan.batch-size 16",
    )
]
QUICK_TO_COMPILE = ["--gan.loss", "hinge", "--gan.r1-gamma", "0", "--gan.r2-gamma", "0"]


def tiny(script: str, *arguments: object) -> list[str]:
    """Arguments of a training of a second; later ones win. Scripts without an SAE or a GAN get none of its options."""
    other = {"train_sae": "--gan.", "train_gan": "--sae."}.get(script)
    words = [word for name, *value in TINY if not (other and name.startswith(other)) for word in (name, *value)]
    # Two critics compile quicker than pairs and a fitted prior, which their own tests ask for.
    places = ["--discriminator", "ensemble"] if script == "train_saegan" else []
    return [*places, *words, *map(str, arguments)]


def score_quickly(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """With classifiers that are hardly trained, kept in ``cache``."""
    patch.setenv("SAEGAN_JAX_CACHE", str(cache))
    quick = functools.partial(load_feature_network, recipe=FeatureRecipe(epochs=1, batch_size=256, width=4))
    for module in (saegan_jax.runs.session, saegan_jax.runs.scores):
        patch.setattr(module, "load_feature_network", quick)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def command(script: str, *arguments: object) -> Outcome:
    """``python -m experiments.<script> <arguments>``, in this process."""
    out, err = io.StringIO(), io.StringIO()
    sys.modules.pop(f"experiments.{script}", None)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
        patch.setenv("COLUMNS", "100")
        code = 0
        try:
            runpy.run_module(f"experiments.{script}", run_name="__main__")
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """The same as a process of its own, from a folder that is not the repository."""
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{script}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "COLUMNS": "100"},
    )


def finished(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=600)
    return Outcome(process.returncode, out, err)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything under ``folder``: contents of files, None for folders."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def metrics(folder: Path) -> list[dict[str, object]]:
    """The rows of metrics.jsonl without the one number that depends on the clock; every line must be whole."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "steps_per_second"} for row in rows]
