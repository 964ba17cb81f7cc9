"""Planted defects: what is drawn, what is altered, and which findings count as right."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import uint8_data

from saegan_jax.data import load
from saegan_jax.evaluation.audit import AuditSettings, ClassOfFeature, Evidence, default_sae
from saegan_jax.evaluation.audit.benches import make_bench, run_trials
from saegan_jax.evaluation.audit.defects import (
    BAR,
    DEFECTS,
    NULL,
    Pool,
    Trial,
    drawn,
    outside,
    run_trial,
    with_bar,
    with_hue,
)
from saegan_jax.report.audit_defects import AUDIT, RIGHT, rows_of, smallest, tables
from saegan_jax.report.table import Result

CLASSES = {j: ClassOfFeature(j, 1.0) for j in range(4)}


def pool(rng, n=1500):
    """One feature a class; the strength is the image's number, so that what is drawn can be told."""
    label = rng.integers(0, 4, n)
    codes = np.zeros((n, 4), np.float32)
    codes[np.arange(n), label] = 1 + np.arange(n)
    evidence = Evidence(codes, rng.gamma(5.0, size=n), rng.uniform(0.6, 1, n), np.zeros(n, int))
    return Pool(evidence, rng.normal(size=(n, 3)), label)


def altered_version(original):
    return original._replace(evidence=original.evidence._replace(error=original.evidence.error + 50))


def numbers(part):
    return set(part.evidence.codes.max(axis=1).tolist())


def test_reals_and_fakes_are_of_disjoint_images():
    original = pool(np.random.default_rng(0))
    real, fake, which = drawn(DEFECTS[NULL], original, None, 300, 0, np.random.default_rng(1))
    assert len(numbers(real)) == len(numbers(fake)) == 300
    assert not numbers(real) & numbers(fake)
    assert not which.any()


def test_a_class_is_dropped_or_halved_among_the_fakes_alone():
    original = pool(np.random.default_rng(0), n=6000)
    shares = {}
    for name in ("a class dropped", "a class halved"):
        real, fake, _ = drawn(DEFECTS[name], original, None, 1200, 2, np.random.default_rng(1))
        assert abs(np.mean(real.label == 2) - 0.25) < 0.06
        shares[name] = np.mean(fake.label == 2)
    assert shares["a class dropped"] == 0
    assert abs(shares["a class halved"] - 0.125 / 0.875) < 0.04


def test_altered_fakes_are_marked():
    original = pool(np.random.default_rng(0))
    _, fake, which = drawn(
        DEFECTS["a bar in 10 %"], original, altered_version(original), 300, 0, np.random.default_rng(1)
    )
    assert which.sum() == 30
    np.testing.assert_array_equal(fake.evidence.error > 45, which)
    with pytest.raises(ValueError, match="take smaller samples"):
        drawn(DEFECTS[NULL], original, None, 800, 0, np.random.default_rng(1))


def test_bars_and_hues():
    images = np.asarray(uint8_data(3, (12, 12, 3)).image)
    barred = with_bar(images)
    assert (barred[:, *BAR] == 255).all()
    assert (barred != images).any(axis=-1).sum() <= 3 * 16
    turned = with_hue(images)
    np.testing.assert_allclose(turned.max(axis=-1), images.max(axis=-1), atol=1)  # the value stays
    grey = np.full((1, 2, 2, 3), 77, np.uint8)
    np.testing.assert_array_equal(with_hue(grey), grey)
    red = np.zeros((1, 1, 1, 3), np.uint8)
    red[..., 0] = 200
    assert with_hue(red)[0, 0, 0].tolist() == [200, 96, 0]


def trial(name, *, target=1, altered=None, seed=2):
    original = pool(np.random.default_rng(0))
    options = {"n": 300, "target": target, "classes": CLASSES, "settings": AuditSettings()}
    return run_trial(DEFECTS[name], original, altered, rng=np.random.default_rng(seed), **options)


def test_trials_find_what_is_planted_and_say_whether_rightly():
    original = pool(np.random.default_rng(0))
    dropped = trial("a class dropped", target=1)
    assert dropped.found
    assert dropped.right
    wrong = run_trial(
        DEFECTS["a class dropped"], original, None, n=300, target=1, settings=AuditSettings(),
        classes={j: ClassOfFeature(3, 1.0) for j in range(4)}, rng=np.random.default_rng(2),
    )  # fmt: skip
    assert wrong.found
    assert not wrong.right
    barred = trial("a bar in 10 %", altered=altered_version(original))
    assert barred.found
    assert barred.right
    copies = original._replace(evidence=original.evidence._replace(nearness=0 * original.evidence.nearness))
    assert trial("5 % copied", altered=copies).right
    assert set(dropped.values) == {"frechet", "kernel", "coverage"}


def test_a_metric_finds_what_leaves_its_null():
    null = np.linspace(0, 1, 101).tolist()
    assert [outside(value, null) for value in (0.01, 0.03, 0.5, 0.97, 0.99)] == [True, False, False, False, True]


def test_shares_smallest_samples_and_the_table():
    good, bad = trial("a class dropped")._replace(values=dict.fromkeys(("frechet", "kernel", "coverage"), 9.0)), None
    bad = good._replace(found=False, right=False)
    null = bad._replace(values=dict.fromkeys(("frechet", "kernel", "coverage"), 0.0))
    trials = {(NULL, n): [null] * 20 for n in (100, 200)}
    trials |= {("a class dropped", 100): [good, bad], ("a class dropped", 200): [good._replace(right=False), good]}
    rows = rows_of(trials)
    alarms = [row for row in rows if row.arm == NULL]
    assert [(row.metric, row.mean, row.low) for row in alarms] == [(AUDIT, 0.0, 0.0)] * 2
    assert alarms[0].high == pytest.approx(1 - 0.025 ** (1 / 20))  # exact
    found = {row.metric: row.mean for row in smallest(rows)}
    assert found == {AUDIT: 200.0, RIGHT: None, "frechet": 100.0, "kernel": 100.0, "coverage": 100.0}
    text = tables(result(rows))
    assert "| 100 | 0 of 20 |" in text
    assert "more than 200" in text


class MeanPixel:
    """In place of a feature network."""

    def features(self, images):
        return images.mean(axis=(1, 2, 3))[:, None] / 255


def test_a_bench_describes_held_out_images_and_their_altered_versions():
    train = load("digits").train
    names = ("a bar in 10 %", "5 % copied")
    tiny = default_sae((8, 8, 1), 300)
    bench = make_bench(train, MeanPixel(), names, n_train=300, n_pool=400, seed=1, sae=replace(tiny, steps=3, auxk=0.0))
    assert len(bench.pool.label) == len(bench.altered["a bar in 10 %"].label) == 400
    np.testing.assert_array_equal(bench.pool.label, bench.altered["a bar in 10 %"].label)
    assert (bench.altered["a bar in 10 %"].features > bench.pool.features).all()
    assert bench.altered["5 % copied"].evidence.nearness.max() == 0  # training images
    assert bench.pool.evidence.nearness.mean() > 0.3
    trials = run_trials(bench, {NULL: 1, "5 % copied": 2}, n=120, seed=1)
    assert {name: len(found) for name, found in trials.items()} == {NULL: 1, "5 % copied": 2}
    kept = json.loads(json.dumps([one._asdict() for one in trials["5 % copied"]]))
    assert [Trial(**one) for one in kept] == trials["5 % copied"]
    assert run_trials(bench, {"5 % copied": 2}, n=120, seed=1)["5 % copied"] == trials["5 % copied"]


def result(rows):
    return Result(name="x", command="c", commit="none", device="d", versions={}, rows=tuple(rows), extra={"note": "n"})
