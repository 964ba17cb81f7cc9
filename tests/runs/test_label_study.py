"""The study of labels kept: what each arm changes, and one guided training from end to end, restored, scored and laid out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import command, metrics

from experiments.keep_labels import KeepLabels, parse_options
from saegan_jax.algorithms.cyclegan import CycleGANConfig
from saegan_jax.data.domains import load_domains
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.features import FeatureRecipe, load_feature_network
from saegan_jax.report.labels import tables
from saegan_jax.report.table import Result
from saegan_jax.runs import guides, label_study, translations
from saegan_jax.runs.guides import check_classes, guide_recipe
from saegan_jax.runs.label_study import ARMS, UNTRANSLATED, Weights, arm_rows, base_options, reference_rows
from saegan_jax.runs.restore import restore_run
from saegan_jax.runs.train.cyclegan import phases_of

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
    found = reference_rows(domains) + arm_rows("semantic", run, domains)
    kept = next(row for row in found if (row.arm, row.metric) == ("semantic", "validation_ab"))
    assert list(kept.values) == rows[-1]["label_kept_ab"]
    result = Result.here("labels", "command", found, note="note")
    table = tables(result)
    assert UNTRANSLATED in table
    assert "| semantic |" in table
    # Not the same network as the one that scores, where the layers are the real ones.
    assert guide_recipe(domains.a).width != FeatureRecipe.for_image(domains.image_shape).width


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
