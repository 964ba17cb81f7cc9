"""The closing table of a run: scores of autoencoders and of samples, each beside its floor, and the pictures."""

import math
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table
from rich.text import Text

from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.sae import SAEConfig, autoencoder
from saegan_jax.evaluation.autoencoders import decoder
from saegan_jax.evaluation.features import load_feature_network
from saegan_jax.evaluation.sample_quality import sample_quality
from saegan_jax.files import write_json
from saegan_jax.metrics import SAEMetrics
from saegan_jax.report import dictionary_picture, training_curves
from saegan_jax.runs.session import SAMPLE_SEED, Run
from saegan_jax.stats import over_seeds
from saegan_jax.training.busy import busy
from saegan_jax.training.sweep import score
from saegan_jax.training.systems import draw
from saegan_jax.training.writers import read_alarms, read_metrics


def score_sae(run: Run, config: SAEConfig, params: Any, *, active_only: bool = False) -> SAEMetrics:
    """Metrics of every member on the test images; each field has a leading axis of members."""
    images = jnp.asarray(run.dataset.test.image)
    members = params if run.n_seeds > 1 else jax.tree.map(lambda leaf: leaf[None], params)

    # Images are an argument: as a constant of the program they would be computed on while it is compiled.
    @jax.jit
    def scored(members: Any, images: jax.Array) -> SAEMetrics:
        return jax.lax.map(lambda one: score(config, one, images, active_only=active_only), members)

    return jax.tree.map(np.asarray, scored(members, images))


def sae_rows(run: Run, config: SAEConfig, params: Any) -> dict[str, dict[str, Any]]:
    """Draw the dictionary and score the autoencoder: rows of the closing table."""
    metrics = score_sae(run, config, params)
    draw_dictionary(run, config, params, metrics)
    return metric_rows(run, config, params, metrics, of="test images", mean="image")


def vector_rows(run: Run, config: SAEConfig, params: Any) -> dict[str, dict[str, Any]]:
    """Score an autoencoder of vectors: rows of the closing table."""
    metrics = score_sae(run, config, params)
    spread = row(run.dataset.spread, "ratio", "of the inputs as they are; above 1 most of each is their mean")
    rows = metric_rows(run, config, params, metrics, of="held-out vectors", mean="vector")
    return rows | {"||mean|| / ||std||": spread}


def draw_dictionary(run: Run, config: SAEConfig, params: Any, metrics: SAEMetrics) -> None:
    """The first member's atoms as ``dictionary.png``."""
    W_dec = decoder(config, params)
    first = W_dec if run.n_seeds == 1 else W_dec[0]
    shape = run.dataset.image_shape
    atom = (config.patch_size, config.patch_size, shape[2]) if config.patch_size else shape
    dictionary_picture(first, atom, run.folder / "dictionary.png", density=metrics.feature_density[0])


def metric_rows(
    run: Run, config: SAEConfig, params: Any, metrics: SAEMetrics, *, of: str, mean: str
) -> dict[str, dict[str, Any]]:
    """Rows of the closing table; ``of`` says what was scored, ``mean`` of what the mean is."""
    shape = run.dataset.image_shape
    threshold = f"codes > {config.active_above:g}"
    positions = autoencoder(config, image_shape=shape).positions
    places = "".join(f"{n} x " for n in positions)
    rows = {"SAE FVU": row(metrics.fvu, "share of variance", f"{of}; 0 perfect, 1 the mean {mean}")}
    if config.active_above > 0:  # codes that L0 does not count have their part in the reconstruction
        strict = score_sae(run, config, params, active_only=True)
        rows["SAE FVU, active"] = row(strict.fvu, "share of variance", f"the same from {threshold} alone")
    return rows | {
        "SAE L0": row(metrics.l0, f"of {places}{config.d_sae} units", threshold),
        "SAE dead units": row(metrics.dead_fraction, "share", f"never {threshold}"),
        "SAE Hoyer": row(metrics.hoyer, "0 dense, 1 one-hot", f"mean over {of}"),
    }


def member_scores(images: np.ndarray, measure: Callable[[np.ndarray], Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``measure`` of every member's images; of one that has failed, whose images are not finite, NaN everywhere."""
    failed = [not np.isfinite(member).all() for member in images]
    found = {i: measure(images[i]) for i in range(len(images)) if not failed[i] or all(failed)}
    names = next(iter(found.values()))
    return [found.get(i, dict.fromkeys(names, math.nan)) for i in range(len(images))]


def sample_rows(run: Run, algorithm: Algorithm, state: Any) -> dict[str, dict[str, Any]]:
    """Score samples of every member: rows of the closing table."""
    if not run.options.evaluate:
        return {}
    run.display.stop()  # rich before 14 allows one live display at a time
    with busy(run.display.console, "scoring samples"):
        network = load_feature_network(run.dataset, seed=0, allow_random=True)
        # Settings chosen by the first network's verdict may suit only it.
        second = load_feature_network(run.dataset, seed=1, allow_random=True)
        n = len(run.dataset.test.label)
        images = draw(algorithm, state, seed=SAMPLE_SEED + 1, n=n, n_seeds=run.n_seeds)
        scores = member_scores(
            images, lambda member: sample_quality(network, member, run.dataset, fraction=run.options.fraction)
        )
        checks = member_scores(images, lambda member: sample_quality(second, member, run.dataset, pairs=False))
    first = next(s for s in scores if not math.isnan(s["frechet"]))
    compared = f"{first['samples']} samples; real against real {first['floor']:.3g}"

    def beside(name: str, unit: str, note: str) -> dict[str, Any]:
        floor = first[f"{name}_floor"]
        return row([s[name] for s in scores], unit, f"{note}real {floor:.3g}", floor=floor)

    rows = {
        "Frechet distance": row([s["frechet"] for s in scores], "squared features", compared, floor=first["floor"]),
        "Frechet / floor": row([s["ratio"] for s in scores], "ratio", network.title),
        "Frechet / floor, second network": row([s["ratio"] for s in checks], "ratio", second.title),
        "class balance KL": beside("class_balance_kl", "nats", ""),
        "kernel distance": beside("kernel", "cubic kernel", "may be below 0; "),
        "precision": beside("precision", "share of samples", "near real images; "),
        "recall": beside("recall", "share of real", "near samples; "),
        "density": beside("density", "ratio", "real points' balls around a sample; "),
        "coverage": beside("coverage", "share of real", "with a sample near; "),
        "memorisation": beside("memorisation", "probability", "nearer to training images than test images; "),
    }
    if not run.dataset.labelled:
        del rows["class balance KL"]
    return {f"{name}{network.suffix}": content for name, content in rows.items()}


def row(values: Any, unit: str, note: str, floor: float | None = None) -> dict[str, Any]:
    """One row of the closing table: a value for every member."""
    return {"values": [float(v) for v in np.atleast_1d(np.asarray(values))], "unit": unit, "note": note, "floor": floor}


def finish(run: Run, rows: dict[str, dict[str, Any]], *, offers_page: bool = True) -> None:
    """Curves, summary.json and the closing table, with the alarms of the training and, of several seeds, every one.

    Args:
      run: the run.
      rows: of the table, beside the alarms and the evaluations on the way.
      offers_page: name the command that makes a page of the run.
    """
    run.display.stop()
    metrics, alarms = read_metrics(run.folder), read_alarms(run.folder)
    training_curves(metrics, run.folder / "curves.png", title=run.folder.name)
    waits = [r["data_wait"] for r in metrics if "data_wait" in r]
    if waits:
        note = "of the device, for data from the host; mean over logging intervals"
        rows = rows | {"waiting": row(float(np.mean(waits)), "share of the time", note)}
    scored = [r for r in metrics if r["phase"] == "gan-scores"]
    if scored:
        distance = "frechet" if "frechet" in scored[0] else "frechet_random_features"
        evaluations = [np.atleast_1d(r[distance]) for r in scored]
        of = "" if distance == "frechet" else ", random features"
        n = len(evaluations)
        rows = rows | {
            "first evaluation": row(
                evaluations[0], "squared features", f"Frechet distance of few samples to validation images{of}"
            ),
            "best evaluation": row(
                np.fmin.reduce(evaluations), "squared features", f"the same, the least of {n}; not the result"
            ),
            "last evaluation": row(evaluations[-1], "squared features", "the same, of the final weights"),
        }
    counts = [sum(e["state"] == "begins" and e["member"] == m for e in alarms) for m in range(run.n_seeds)]
    kinds = ", ".join(sorted({e["kind"] for e in alarms if e["member"] is not None})) or "none began"
    rows = rows | {"alarms": row(counts, "count", kinds)}
    write_json(run.folder / "summary.json", {"device": str(jax.devices()[0]), "rows": rows, "alarms": alarms})
    several = run.n_seeds > 1
    table = Table(title=Text(str(run.folder)), title_justify="left")
    table.add_column("measure")
    table.add_column(f"mean of {run.n_seeds} seeds" if several else "value", justify="right")
    if several:
        table.add_column("95 % interval", justify="right")
        table.add_column("every seed")
    table.add_column("unit")
    table.add_column("beside")
    for name, content in rows.items():
        found = over_seeds(content["values"])
        spread = []
        if several:
            interval = "" if found.low is None else f"{found.low:.3g} .. {found.high:.3g}"
            spread = [interval, " ".join(f"{v:.3g}" for v in content["values"])]
        table.add_row(name, f"{found.mean:.3g}", *spread, content["unit"], content["note"])
    run.display.console.print(table)
    if offers_page:
        said = f"saegan report {shlex.quote(str(run.folder))} makes a page of this run, to be opened in a browser."
        run.display.console.print(Text(said), soft_wrap=True)
