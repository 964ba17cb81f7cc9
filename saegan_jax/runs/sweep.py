"""Sweeps of sparse autoencoders: the members of each variant, trained in one program and scored."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console

from saegan_jax.algorithms.base import Examples
from saegan_jax.algorithms.sae import VARIANTS, SAEConfig
from saegan_jax.data import Dataset
from saegan_jax.evaluation.autoencoders import SweepScores, Swept, score_sweep
from saegan_jax.report.sweep import METRICS
from saegan_jax.runs.program import prefixed
from saegan_jax.training.busy import busy
from saegan_jax.training.run_folder import to_json
from saegan_jax.training.sweep import SWEPT, Member, grid, train_members

ImageShape = tuple[int, int, int]
SWEEPABLE = tuple(name for name, variant in VARIANTS.items() if variant.sweep_axes)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is swept, in which variants have a part.

    Attributes:
      axes: values of ``rho``, ``beta``, ``k`` and ``learning_rate``; empty for each variant's own.
      sae: settings that all members share.
      variant_defaults: give each variant what suited it beside the swept settings.
      seed, seeds: the first seed and their number.
      probe_images: training images that probes are fitted to, 0 for none.
      members_per_vmap: members computed together; None for what fits the machine.
    """

    axes: Mapping[str, tuple[float, ...]]
    sae: SAEConfig
    variant_defaults: bool
    seed: int
    seeds: int
    probe_images: int
    members_per_vmap: int | None


def shared_settings(sweep: Sweep, variant: str, image_shape: ImageShape) -> SAEConfig:
    """What all members of a variant share."""
    functions = VARIANTS[variant]
    shared = replace(
        sweep.sae,
        variant=variant,
        k=min(sweep.sae.k, sweep.sae.d_sae),  # swept, or without effect
        levels=() if functions.levels is None else sweep.sae.levels,
    )
    if not sweep.variant_defaults:
        return shared
    wanted = functions.wants(image_shape).items()
    return replace(shared, **{name: value for name, value in wanted if name not in functions.sweep_axes})


def axes_of(sweep: Sweep, variant: str) -> dict[str, tuple[float, ...]]:
    """The settings that vary among the members of a variant, and their values."""
    given = sweep.axes
    axes: dict[str, tuple[float, ...]] = {
        name: given[name] or values for name, values in VARIANTS[variant].sweep_axes.items()
    }
    if "k" in axes:  # the defaults are for wide dictionaries
        axes["k"] = tuple(k for k in axes["k"] if given["k"] or k < sweep.sae.d_sae) or (sweep.sae.d_sae,)
    if "rho" in axes and given["beta"]:
        axes["beta"] = given["beta"]
    if given["learning_rate"]:
        axes["learning_rate"] = given["learning_rate"]
    return axes


def members_of_variant(sweep: Sweep, variant: str, image_shape: ImageShape) -> list[Member]:
    """The members of one variant, the seeds of a combination beside each other."""
    seeds = range(sweep.seed, sweep.seed + sweep.seeds)
    return grid(shared_settings(sweep, variant, image_shape), seeds, **axes_of(sweep, variant))


def asked_of(sweep: Sweep, members: list[Member], dataset: Dataset) -> dict[str, Any]:
    """What the scores of a variant's members depend on, as JSON values."""
    return {
        "dataset": dataset.name,
        "seeds": [sweep.seed, sweep.seeds],
        "probe_images": sweep.probe_images,
        "members": [to_json(m.config) for m in members[:: sweep.seeds]],
    }


def label(variant: str, config: SAEConfig, names: tuple[str, ...]) -> str:
    """A combination as the table names it."""
    return " ".join([variant, *(f"{name}={getattr(config, name):g}" for name in names)])


def progress_text(infos: Any, step: int, steps: int) -> str:
    """How far a training is, and how its members do."""
    failed = int((~np.isfinite(infos.loss)).sum())
    active = f"L0 {np.nanmin(infos.l0):.3g} to {np.nanmax(infos.l0):.3g}"
    return f"step {step} of {steps}, {active}" + (f", {failed} failed" if failed else "")


def train_variant(
    sweep: Sweep, members: list[Member], dataset: Dataset, say: Callable[[str], None]
) -> tuple[Swept, float]:
    """Train all members of one variant; with the seconds that it took."""
    data = Examples(jnp.asarray(dataset.train.image), jnp.asarray(dataset.train.label))
    steps, began = members[0].config.steps, time.perf_counter()
    states, infos = train_members(
        members,
        data,
        members_per_vmap=sweep.members_per_vmap,
        progress=lambda step, infos: say(progress_text(infos, step, steps)),
    )
    return Swept(members, states, infos, sweep.seeds), time.perf_counter() - began


def finite_values(values: Any, good: np.ndarray) -> list[float | None]:
    """Values of one combination's seeds; None for one that failed."""
    return [float(v) if ok and np.isfinite(v) else None for v, ok in zip(values, good, strict=True)]


def combination_rows(swept: Swept, scores: SweepScores, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row per combination: settings, seeds, and values of every measure."""
    rows = []
    for start in range(0, len(swept.members), swept.seeds):
        part = slice(start, start + swept.seeds)
        good, config = scores.finite[part], swept.members[start].config
        validation = {name: getattr(scores.validation, name)[part] for name in ("l0", "fvu", "dead_fraction")}
        rows.append(
            {
                "arm": label(config.variant, config, names),
                "variant": config.variant,
                "settings": {name: getattr(config, name) for name in SWEPT},
                "seeds": [m.seed for m in swept.members[part]],
                "failed": int((~good).sum()),
                "metrics": {name: finite_values(scores.columns[name][part], good) for name in METRICS},
                "validation": {name: finite_values(values, good) for name, values in validation.items()},
            }
        )
    return rows


def run_variant(sweep: Sweep, members: list[Member], dataset: Dataset, console: Console) -> dict[str, Any]:
    """Train and score all members of one variant: what its file holds."""
    config = members[0].config
    title = f"{config.variant}: {len(members)} members"
    with busy(console, f"{title}, compiling") as tell:
        say = prefixed(tell, f"{title}, ")
        swept, seconds = train_variant(sweep, members, dataset, say)
        scores = score_sweep(swept, dataset, probe_images=sweep.probe_images, say=say)
    console.print(f"{title} of {config.steps} steps in {seconds:.0f} s")
    rows = combination_rows(swept, scores, tuple(axes_of(sweep, config.variant)))
    return {"variant": config.variant, "config": to_json(config), "training_seconds": seconds, "rows": rows}
