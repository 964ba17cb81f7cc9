"""The study of labels kept: what each arm changes, and one guided training from end to end, restored, scored and laid out."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import command, metrics
from two_domains import ALGORITHM, DOMAINS, bright, dark, members

from experiments.keep_labels import KeepLabels, parse_options
from saegan_jax.algorithms.cyclegan import CycleGANConfig
from saegan_jax.data.domains import load_domains
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.features import FeatureRecipe, load_feature_network
from saegan_jax.report.labels import tables
from saegan_jax.report.table import Result
from saegan_jax.runs import guides, label_study, translations
from saegan_jax.runs.guides import check_classes
from saegan_jax.runs.label_study import (
    ARMS,
    REAL,
    UNTRANSLATED,
    Weights,
    arm_rows,
    base_options,
    reference_rows,
    targets_of,
    train_arm,
)
from saegan_jax.runs.restore import restore_run
from saegan_jax.runs.session import recorded_options, require_same_run
from saegan_jax.runs.train.cyclegan import UNRECORDED, phases_of
from saegan_jax.runs.train.cyclegan import parse_options as parse_training

TINY = (
    "--cyclegan.width 2 --cyclegan.stages 1 --cyclegan.blocks 1 --cyclegan.d-width 2 --cyclegan.d-stages 1 --cyclegan.steps 10 "
    "--cyclegan.batch-size 2 --sae.d-sae 8 --sae.k 3 --sae.auxk 0 --sae.batch-size 4 --sae.steps 10 --log-every 5 "
    "--save-every 10 --picture-every 5 --seeds 2 --cyclegan.concept-weight 1 --cyclegan.concept-encoder random "
    "--cyclegan.semantic-weight 1 --cyclegan.semantic-labels both"
)


def quick(dataset: Any, *, seed: int = 0, recipe: Any = None) -> Any:
    """A classifier that is hardly trained, with the layers of one that is trained against."""
    return load_feature_network(
        dataset, seed=seed, recipe=FeatureRecipe(epochs=1, batch_size=256, width=24, feature_dim=48)
    )


def test_every_arm_changes_what_it_says() -> None:
    base, weights = base_options(steps=100, sae_steps=100, seed=0, seeds=1), Weights(concept=3.0, semantic=2.0)
    made = {name: change(base, weights) for name, change in ARMS.items()}
    assert made["plain"] == base
    assert {name: one.cyclegan.concept_weight for name, one in made.items() if "concept" in name} == dict.fromkeys(
        ("concept", "concept_random", "concept_dense"), 3.0
    )
    assert {name: one.cyclegan.semantic_labels for name, one in made.items() if one.cyclegan.semantic_weight == 2.0} == {
        "semantic": "source", "semantic_both": "both",
    }  # fmt: skip
    assert [name for name, one in made.items() if one.sae.k == one.sae.d_sae] == ["concept_dense"]
    # An autoencoder that is not trained, or not read, is no phase.
    assert [name for name, one in made.items() if "sae" in phases_of(one)] == ["concept", "concept_dense"]


def test_a_guided_training_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores on the way, the closing table, the checkpoint read back without data, and rows of the study."""
    monkeypatch.setenv("SAEGAN_JAX_CACHE", str(tmp_path / "cache"))
    for module in (translations, guides):
        monkeypatch.setattr(module, "load_feature_network", quick)
    run = tmp_path / "run"
    code, _, err = command("train_cyclegan", *TINY.split(), "--out", run)
    assert code == 0, err
    rows = metrics(run)
    assert [(row["phase"], row["step"]) for row in rows if row["phase"].endswith("scores")] == [
        ("cyclegan-scores", 5), ("cyclegan-scores", 10),
    ]  # fmt: skip
    assert all(0 <= share <= 1 for share in rows[-1]["label_kept_ab"] + rows[-1]["label_kept_ba"])
    assert all(value > 0 for row in rows if "concept" in row for value in row["concept"] + row["semantic"])
    summary = json.loads((run / "summary.json").read_text())["rows"]
    assert {"label kept, A to B", "SAE error, A"} < set(summary)
    restored = restore_run(run)
    assert set(restored.state.pretrained.classifiers) == {"a", "b"}
    weights = restored.state.pretrained.sae["params"]["W_enc"]
    assert not np.allclose(weights[0], weights[1])  # each member has an autoencoder
    domains = load_domains("digits_inverted_rotated")
    targets = targets_of(domains)
    found = reference_rows(domains, targets) + arm_rows("semantic", run, domains, targets)
    kept = next(row for row in found if (row.arm, row.metric) == ("semantic", "validation_ab"))
    assert list(kept.values) == rows[-1]["label_kept_ab"]
    result = Result.here("labels", "command", found, note="note")
    table = tables(result)
    assert UNTRANSLATED in table
    assert "| semantic |" in table
    # What is drawn beside a run is no part of it.
    options = parse_training([*TINY.split(), "--out", str(run)])
    require_same_run(replace(options, beside=(run,)), run, UNRECORDED)
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(cyclegan, seed\)"):
        require_same_run(replace(options, seed=1, cyclegan=replace(options.cyclegan, steps=11)), run, UNRECORDED)


def test_an_arm_is_trained_once_and_only_its_own_run_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Any] = []

    def train(options: Any) -> None:
        trained.append(options)
        options.out.mkdir(exist_ok=True)
        config = {"options": recorded_options(options, UNRECORDED)}
        (options.out / "config.json").write_text(json.dumps(config))

    monkeypatch.setattr(label_study, "train", train)
    base, weights = base_options(steps=100, sae_steps=100, seed=0, seeds=1), Weights()
    out = train_arm(base, "concept", weights, tmp_path)
    assert out == tmp_path / "concept"
    assert (trained[0].out, trained[0].resume, trained[0].cyclegan.concept_weight) == (out, False, 30.0)
    train_arm(base, "concept", weights, tmp_path)
    assert [one.resume for one in trained] == [False, True]  # it has not come to its end
    (out / "summary.json").write_text("{}")
    assert train_arm(base, "concept", weights, tmp_path) == out
    assert len(trained) == 2
    for options, other in (
        (base, replace(weights, concept=2.0)), (base_options(steps=200, sae_steps=100, seed=0, seeds=1), weights),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=r"holds a run with other settings \(cyclegan\)"):
            train_arm(options, "concept", other, tmp_path)


def fake_network(reads: Any, scale: float) -> Any:
    """A classifier whose one feature is the mean of all pixels, times ``scale``."""

    def features(images: np.ndarray) -> np.ndarray:
        values = images / 255 if images.dtype == np.uint8 else images
        return scale * values.reshape(len(values), -1).mean(axis=1, keepdims=True)

    return SimpleNamespace(predict_labels=reads, features=features)


def distance(real: list[float], fake: list[float], n: int) -> float:
    """The Frechet distance of half as many images of each level; of fakes there are ``n``, of real ones 30."""
    spread = [abs(x - y) / 2 * (m / (m - 1)) ** 0.5 for (x, y), m in ((real, 30), (fake, n))]
    return float((np.mean(real) - np.mean(fake)) ** 2 + (spread[0] - spread[1]) ** 2)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The targets of fake classifiers, and a run of three members: right, wrong from A to B, and failed."""
    networks = {"a": fake_network(bright, 1.0), "b": fake_network(dark, 10.0)}
    monkeypatch.setattr(label_study, "scorers", lambda domains: networks)
    run = SimpleNamespace(state=members(True, False, True, failed=True), n_seeds=3, algorithm=ALGORITHM)
    monkeypatch.setattr(label_study, "restore_run", lambda folder: run)
    shares = [{"label_kept_ab": [share, 0.5, None], "label_kept_ba": [0.1, share, None]} for share in (0.2, 0.3)]
    phases = ("cyclegan-scores", "cyclegan-scores", "cyclegan")
    rows = [{"phase": phase} | share for phase, share in zip(phases, (*shares, {}), strict=True)]
    monkeypatch.setattr(label_study, "read_metrics", lambda folder: rows)
    return targets_of(DOMAINS)


def test_rows_of_an_arm_by_hand(fakes: Any, tmp_path: Path) -> None:
    found = {row.metric: row.values for row in arm_rows("arm", tmp_path, DOMAINS, fakes)}
    a, b = ([level / 255 for level in np.unique(domain.test.image)] for domain in (DOMAINS.a, DOMAINS.b))
    inverted_a, inverted_b = ([1 - level for level in levels] for levels in (a, b))
    errors = [np.mean([abs(1 - 2 * level) for level in levels]) for levels in (a, b)]
    wanted = {
        "label_kept_ab": (1.0, 0.0, None),
        "label_kept_ba": (1.0, 1.0, None),
        "frechet_ab": (100 * distance(b, inverted_a, 30), 100 * distance(b, a, 30), None),
        "frechet_ba": (distance(a, inverted_b, 30), distance(a, inverted_b, 30), None),
        "cycle": (0.0, np.mean(errors), None),
        "validation_ab": (0.3, 0.5, None),
        "validation_ba": (0.1, 0.3, None),
    }
    assert found.keys() == wanted.keys()
    for metric, values in wanted.items():
        assert found[metric][2] is None
        np.testing.assert_allclose(found[metric][:2], values[:2], rtol=1e-4, atol=1e-6, err_msg=metric)


def test_rows_of_references_by_hand(fakes: Any) -> None:
    found = {(row.arm, row.metric): row.mean for row in reference_rows(DOMAINS, fakes)}
    a, b = ([level / 255 for level in np.unique(domain.test.image)] for domain in (DOMAINS.a, DOMAINS.b))
    wanted = {
        (UNTRANSLATED, "label_kept_ab"): 0.0, (UNTRANSLATED, "label_kept_ba"): 0.0,
        # One label in ten of A's validation images is false.
        (UNTRANSLATED, "validation_ab"): 0.1, (UNTRANSLATED, "validation_ba"): 0.0,
        (UNTRANSLATED, "frechet_ab"): 100 * distance(b, a, 30), (UNTRANSLATED, "frechet_ba"): distance(a, b, 30),
        (REAL, "label_kept_ab"): 1.0, (REAL, "label_kept_ba"): 0.9,
        (REAL, "frechet_ab"): 100 * distance(b, b, 10), (REAL, "frechet_ba"): distance(a, a, 10),
    }  # fmt: skip
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=str(name))


def test_classes_that_are_not_those_of_the_data() -> None:
    domains = load_domains("digits_inverted_rotated")
    check_classes(CycleGANConfig(classes=3), domains)
    with pytest.raises(ConfigError, match=r"^cyclegan.classes = 3 cannot be used: the labels of .* have 10 classes"):
        check_classes(CycleGANConfig(classes=3, semantic_weight=1.0), domains)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"arms": ()}, "arms"),
        ({"arms": ("sparse",)}, "arms"),
        ({"steps": 0}, "steps"),
        ({"results": Path("a.md")}, "results"),
    ],
)
def test_bad_options_of_the_study(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        KeepLabels(**options)
    assert error.value.field == field


def test_weights_of_the_study_are_positive() -> None:
    for name in ("concept", "semantic"):
        with pytest.raises(ConfigError) as error:
            replace(Weights(), **{name: 0.0})
        assert error.value.field == name
    assert parse_options(["--weights.concept", "2"]).weights.concept == 2.0
    assert label_study.ARMS.keys() == set(KeepLabels().arms)
