"""The comparison from end to end at tiny size: equal size, equal operations, controls, resuming, failures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import command, metrics, score_quickly, tiny, tree

from experiments.readme import ROOT
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.algorithms.saegan import SAEGANConfig
from saegan_jax.errors import ConfigError
from saegan_jax.report.comparison import BASELINE, MEASURES, Measured, percent, rows_of, tables
from saegan_jax.report.table import Result, Row, cell
from saegan_jax.runs.compare.arms import ARMS, SAE_GAN, arm_names, make_arm
from saegan_jax.runs.compare.budgets import cost
from saegan_jax.runs.compare.plan import blocks
from saegan_jax.runs.compare.sizes import count_parameters, matched
from saegan_jax.runs.presets import PRESETS

DIGITS = {"image_shape": (8, 8, 1), "n_classes": 10}
QUICK = ["--gan.loss", "hinge", "--gan.r1-gamma", "0", "--gan.r2-gamma", "0", "--evaluate"]


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        *(("digits", name) for name, arm in ARMS.items() if arm.family is SAE_GAN or name == BASELINE),
        *(("mnist-cpu", name) for name in ("sparse", "ensemble", "lossless", "init")),
    ],
)
def test_every_arm_has_the_baselines_size(preset, name):
    model = PRESETS[preset].model
    known = DIGITS if preset == "digits" else {"image_shape": (28, 28, 1), "n_classes": 10}
    target = count_parameters(make_arm(BASELINE, model).settings, **known)
    arm = make_arm(name, model)
    settings, reached = matched(arm.settings, target, widths=arm.family.widths, **known)
    assert reached == count_parameters(settings, **known)
    np.testing.assert_allclose(reached, target, rtol=0.01)
    assert settings.gan.steps == model.gan.steps
    # Nothing but numbers of units has changed.
    units = ("hidden", "d_hidden", "mix", "head_hidden")
    assert replace(settings.gan, **{u: getattr(model.gan, u) for u in units}) == model.gan


def settings_of(name, model, **options):
    return make_arm(name, model, **options).settings


def test_arms_by_name():
    model = SAEGANConfig(sae=SAEConfig(variant="topk", k=4, d_sae=16, auxk=0.1), alignment=0.2, sampler="copula")
    assert settings_of("pixels", model) == replace(
        model, generator_input="gaussian", discriminator="pixels", alignment=0.0, sampler="factorised"
    )
    dense = settings_of("ensemble+dense", model)
    assert (dense.sae.variant, dense.sae.beta, dense.sae.auxk, dense.sae.d_sae) == ("l1", 0.0, 0.0, 16)
    assert settings_of("latent-codes+dense", model).sae.k == 16
    sigmoid = settings_of("codes+dense", SAEGANConfig())
    assert (sigmoid.sae.variant, sigmoid.sae.beta) == ("kl", 0.0)
    changed = settings_of("codes+random+augment", model)
    assert (changed.encoder, changed.gan.augment) == ("random", ("translation", "cutout"))
    labels = settings_of("joint+kmeans", model)
    assert (labels.encoder, labels.sampler, labels.sae.k, labels.sae.d_sae) == (
        "kmeans",
        "bootstrap",
        1,
        model.sae.d_sae,
    )
    assert settings_of("pixels+hidden-l1", model).gan.hidden_penalty == "l1"
    assert settings_of("pixels", model).gan.hidden_weight == 0 < settings_of("joint+hidden-l2", model).gan.hidden_weight
    assert settings_of("sparse-clusters", model).sampler == "clusters"
    dropped = settings_of("joint+dropout+dense", replace(model, alignment=0.0))
    assert (dropped.discriminator, dropped.code_dropout, dropped.standardise) == ("joint", 1.0, True)
    assert settings_of("joint", dropped).code_dropout == 0.0
    assert settings_of("joint-shuffled", model).pairing == "shuffled"
    for wrong in ("pixel", "codes+sparse", "pixels+dense", "codes+", ""):
        with pytest.raises(ConfigError, match=r"^arms = "):
            settings_of(wrong, model)
    assert arm_names(("codes", "sparse+dense"), controls=True) == (
        "pixels", "codes", "codes+dense", "codes+random", "sparse+dense",
    )  # fmt: skip
    assert arm_names(("codes", "pixels"), controls=False) == ("pixels", "codes")


def test_energy_based_arms_have_the_baselines_generator_and_the_presets_margin():
    model = PRESETS["digits"].model
    settings = settings_of("ebgan+dense", model, preset="digits")
    assert (settings.kind, settings.margin, settings.sae.beta) == ("ebgan", 1.0, 0.0)
    assert settings_of("ebgan", model, preset="mnist-cpu").margin == 10.0
    target = count_parameters(settings_of(BASELINE, model), **DIGITS)
    own, reached = matched(settings, target, widths=ARMS["ebgan"].family.widths, **DIGITS)
    assert own == settings
    assert reached.generator == target.generator
    # 128 units of 64 pixels, encoder and decoder, and both biases.
    assert reached.discriminator == 2 * 128 * 64 + 128 + 64
    assert arm_names(("began",), controls=True) == ("pixels", "began", "began+dense")
    for wrong in ("ebgan+random", "began+augment"):
        with pytest.raises(ConfigError, match=r"^arms = .*trained in the game"):
            settings_of(wrong, model)


def test_costs_charge_the_autoencoder_and_grow_with_the_work():
    gan = GANConfig(hidden=(32,), d_noise=4, batch_size=32, loss="hinge", r1_gamma=0.0, r2_gamma=0.0)
    model = SAEGANConfig(sae=SAEConfig(d_sae=32, batch_size=64, steps=100), gan=gan, code_hidden=(32,))

    def of(name, own=model):
        return cost(make_arm(name, own), **DIGITS, n_images=1000)

    plain, codes, ensemble, random = (of(name) for name in ("pixels", "codes", "ensemble", "ensemble+random"))
    # Products with the matrices of the generator (4 x 32, 32 x 64) and the critic (64 x 32, 32 x 1), 2 operations an element
    # and example: forward, and at most twice as much back. Fakes are drawn twice, and the critic sees 2 + 1 batches.
    generator, critic = 32 * 2 * (4 * 32 + 32 * 64), 32 * 2 * (64 * 32 + 32)
    assert plain.before == 0
    assert 2 * generator + 3 * critic < plain.step < 2 * (4 * generator + 9 * critic)
    assert ensemble.step > max(plain.step, codes.step)
    assert random.step == ensemble.step
    # Encoding 1,000 images takes 2 x 64 x 32 operations each, and a little for the activation.
    assert 1000 * 2 * 64 * 32 < random.before < 2 * 1000 * 2 * 64 * 32
    assert ensemble.before > 20 * random.before
    longer = of("ensemble", replace(model, sae=replace(model.sae, steps=200)))
    assert longer.before - random.before == pytest.approx(2 * (ensemble.before - random.before))


ARGUMENTS = [
    "--arms", "ensemble", "--fractions", 1, 0.5, "--sae.steps", 5, "--gan.steps", 30, "--dataset",
    "digits", "--sae.batch-size", 16,
]  # fmt: skip


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison of five arms' worth of nothing: two arms, two fractions, one seed."""
    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        score_quickly(patch, folder / "cache")
        arguments = tiny("compare", *QUICK, *ARGUMENTS, "--no-controls", "--out", folder / "out")
        result = command("compare", *arguments)
        assert result.code == 0, result.err
    return folder, arguments, result


def read(folder: Path) -> dict:
    return json.loads((folder / "out" / "results.json").read_text())


def test_a_comparison_leaves_runs_tables_and_a_picture(compared):
    folder, _, outcome = compared
    runs = sorted(str(p.parent.relative_to(folder / "out")) for p in (folder / "out").rglob("summary.json"))
    assert runs == sorted(f"data-{f}/{arm}/seeds-0-0" for f in ("1", "0.5") for arm in ("pixels", "ensemble"))
    result = read(folder)
    rows = {(r["fraction"], r["arm"], r["metric"]): r for r in result["rows"]}
    for fraction in (1.0, 0.5):
        for arm in ("pixels", "ensemble"):
            row = rows[fraction, arm, "Frechet / floor"]
            single = json.loads((folder / "out" / f"data-{fraction:g}/{arm}/seeds-0-0/summary.json").read_text())
            assert row["values"] == single["rows"]["Frechet / floor"]["values"]
            assert row["failed"] == 0
            assert ("change" in row) == (arm == "ensemble")
        plain, own = rows[fraction, "pixels", "recall"], rows[fraction, "ensemble", "recall"]
        assert plain["steps"] == 30
        assert own["steps"] < 30  # the autoencoder and its critic cost something
        assert own["steps"] % 5 == 0
        assert own["flops"] <= plain["flops"]
        np.testing.assert_allclose(own["parameters"], plain["parameters"], rtol=0.05)
    assert (folder / "out" / "results.png").stat().st_size > 5000
    assert "memorisation" not in (folder / "out" / "results.md").read_text()
    table = (folder / "out" / "results-all.md").read_text()
    for text in ("**100 % of the training images**", "**50 % of the training images**", "| ensemble |", "memorisation"):
        assert text in table
    assert "undecided" in outcome.out


def test_seeds_are_trained_in_blocks():
    assert blocks(seeds=6, block=2, seed=3) == [(3, 2), (5, 2), (7, 2)]
    assert blocks(seed=0, seeds=3, block=8) == [(0, 3)]


def test_an_arm_with_fewer_seeds_is_compared_on_those_it_has():
    def measured(values):
        return {metric: list(values) for metric in MEASURES}

    rng = np.random.default_rng(0)
    base = np.exp(rng.normal(0, 0.3, 6))
    found = {(1.0, BASELINE): measured(base), (1.0, "codes"): measured(2 * base[:4]), (1.0, "both"): measured(base)}
    found[1.0, "both"]["recall"][1] = float("nan")
    arms = [Measured(arm, fraction, values, (1, 1), 10, None) for (fraction, arm), values in found.items()]
    rows = {(row["arm"], row["metric"]): row for row in rows_of(arms)}
    assert {arm for arm, _ in rows} == {BASELINE, "codes", "both"}
    codes = rows["codes", "Frechet / floor"]
    assert codes["seeds"] == 4
    assert codes["change"]["change"] == pytest.approx(
        1.0
    )  # twice as much, seed by seed, and noise between seeds cancels
    assert codes["change"]["verdict"] == "worse"
    assert rows["both", "Frechet / floor"]["change"]["verdict"] == "absent"
    failed = rows["both", "recall"]
    assert (failed["failed"], failed["values"][1]) == (1, None)
    assert failed["mean"] == pytest.approx(np.delete(base, 1).mean())
    assert failed["change"]["verdict"] == "undecided"


def test_half_of_the_data_is_half_of_it(compared):
    folder, _, _ = compared
    runs = {f: folder / "out" / f"data-{f}" / "pixels" / "seeds-0-0" for f in ("1", "0.5")}
    options = {f: json.loads((run / "config.json").read_text())["options"] for f, run in runs.items()}
    assert [f for f in options if options[f].pop("fraction") != float(f)] == []
    assert options["1"] == options["0.5"]
    losses = {
        f: [row["discriminator_loss"] for row in metrics(run) if row["phase"] == "gan"] for f, run in runs.items()
    }
    assert losses["1"][0] != losses["0.5"][0]  # the same seed on other images
    floors = {f: json.loads((run / "summary.json").read_text())["rows"] for f, run in runs.items()}
    # Copies are looked for among the images trained on, everything else is measured against the same.
    same = [name for name, row in floors["1"].items() if row["floor"] == floors["0.5"][name]["floor"]]
    assert sorted(set(floors["1"]) - set(same)) == ["memorisation"]


def test_finished_arms_are_kept_and_missing_ones_trained(compared, monkeypatch):
    folder, arguments, _ = compared
    score_quickly(monkeypatch, folder / "cache")
    lost = folder / "out" / "data-1" / "ensemble" / "seeds-0-0"
    (lost / "summary.json").unlink()
    before = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("summary.json")}
    first = read(folder)
    code, _, err = command("compare", *arguments, "--tabulate", "--results", folder / "some.json")
    assert code == 0, err
    some = json.loads((folder / "some.json").read_text())
    assert not [r for r in some["rows"] if r["arm"] == "ensemble" and r["fraction"] == 1]
    assert (folder / "some-all.md").exists()
    assert read(folder) == first
    assert not (lost / "summary.json").exists()
    code, out, err = command("compare", *arguments)
    assert code == 0, err
    assert "ensemble, 100 % of the images, seeds 0 to 0" in out
    assert out.count("% of the images, seeds") == 1
    assert {p: p.stat().st_mtime_ns for p in before} == before
    # The same checkpoint scored again.
    assert read(folder)["rows"] == first["rows"]


def test_a_finished_run_of_other_settings_is_refused(compared):
    folder, arguments, _ = compared
    before = tree(folder / "out")
    code, _, err = command("compare", *arguments, "--gan.learning-rate", 0.5, "--tabulate")
    assert code == 2
    assert "it holds a run with other settings (gan)" in err
    assert tree(folder / "out") == before


def test_an_arm_that_fails_is_told_and_counted_and_the_others_go_on(compared, monkeypatch, tmp_path):
    folder, _, _ = compared
    score_quickly(monkeypatch, folder / "cache")
    arguments = tiny("compare", *QUICK, *ARGUMENTS[:2], "--dataset", "digits", "--sae.learning-rate", 1e30, "--equal", "steps",
                     "--no-match", "--no-controls", "--out", tmp_path / "out")  # fmt: skip
    code, out, err = command("compare", *arguments)
    assert code == 0, err
    assert "failed:" in out
    rows = {(r["arm"], r["metric"]): r for r in json.loads((tmp_path / "out" / "results.json").read_text())["rows"]}
    assert rows["ensemble", "Frechet / floor"]["failed"] == 1
    assert rows["pixels", "Frechet / floor"]["failed"] == 0
    # It is not tried again.
    code, out, _ = command("compare", *arguments)
    assert code == 0
    assert "failed:" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "code"], "arms = 'code' cannot be used"),
        (["--seeds", 3, "--block", 2], "seeds = 3 cannot be used: blocks of 2"),
        (["--fractions", 0], "fractions = 0.0 cannot be used"),
        (["--fractions", 0.01], "gan.batch_size = 16 cannot be used: the training data has 13 images"),
        (["--equal", "flop"], "flop"),
        (["--sae.steps", 100000, "--arms", "codes"], "sae.steps = 100000 cannot be used: codes: the autoencoder alone"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(arguments, message, tmp_path):
    code, _, err = command("compare", *tiny("compare", *QUICK, "--out", tmp_path / "out", *arguments))
    assert code == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_large_changes_are_told_and_only_endless_ones_are_not():
    effect = {"change": 94.9, "low": 72.9, "high": 123.0, "verdict": "worse"}
    assert percent(effect) == "+9490 % [+7290, +12300] **worse**"
    assert percent(effect | {"high": float("inf"), "verdict": "undecided"}) == "+9490 % [+7290, inf] undecided"


def test_results_of_earlier_versions_are_read():
    """They called an evaluation on the way a look."""
    path = ROOT / "experiments" / "results" / "compare_digits.json"
    recorded = {(row["arm"], row["metric"]): row for row in json.loads(path.read_text())["rows"]}
    lines = [line.split(" | ") for line in tables(Result.read(path), every=True).splitlines() if line.startswith("| ")]
    heading = next(line for line in lines if "best evaluation" in line)
    measures = next(line for line in lines if line[0] == "| pixels" and len(line) == len(heading))
    for which in ("best", "last"):
        name = f"{which} evaluation"
        assert measures[heading.index(name)] == cell(Row.from_json(recorded["pixels", f"{which} look"]), digits=2) != ""
