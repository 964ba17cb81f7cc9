"""Counting modes: the data that have known ones, and the experiments around them, small."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import command
from helpers import uint8_data

from experiments import gaussians, stacked_mnist
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.data import Dataset, Split
from saegan_jax.data.mixtures import draw_points, mixture
from saegan_jax.data.stacked import stacked, stacks
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation import modes as measuring
from saegan_jax.metrics import mixture_quality, reverse_kl_floor
from saegan_jax.report.modes import STACKED_METRICS, tables
from saegan_jax.report.table import Result
from saegan_jax.runs.modes.case import rows_of
from saegan_jax.runs.modes.mixtures import CEILING
from saegan_jax.runs.modes.stacked import DCGAN_RECIPE, PROTOCOLS
from saegan_jax.training.stop import StoppedError
from saegan_jax.training.writers import read_metrics


@pytest.mark.parametrize(
    ("name", "modes", "sigma", "spacing"), [("ring", 8, 0.01, 2 * np.sin(np.pi / 8)), ("grid", 25, 0.05, 2)]
)
def test_mixtures_are_those_of_the_papers(name, modes, sigma, spacing):
    target = mixture(name)
    assert target.centers.shape == (modes, 2)
    assert target.sigma == sigma
    apart = np.linalg.norm(target.centers[:, None] - target.centers[None], axis=-1) + 100 * np.eye(modes)
    np.testing.assert_allclose(apart.min(axis=1), spacing, rtol=1e-5)
    batch = jax.jit(lambda key: draw_points(key, target, n=20_000))(jax.random.key(0))
    images = np.asarray(batch.image)
    assert images.shape == (20_000, 1, 1, 2)
    assert 0 < images.min() < images.max() < 1
    points, mode = target.points(images), np.asarray(batch.label)
    offset = points - target.centers[mode]
    np.testing.assert_allclose(offset.std(axis=0), sigma, rtol=0.03)
    np.testing.assert_allclose(offset.mean(axis=0), 0, atol=4 * sigma / np.sqrt(20_000))
    share = np.bincount(mode, minlength=modes) / 20_000
    assert np.abs(share - 1 / modes).max() < 5 * np.sqrt(1 / modes / 20_000)
    found = mixture_quality(points, target.centers, sigma=sigma)
    assert found.modes == modes
    np.testing.assert_allclose(found.high_quality, CEILING, atol=0.004)
    assert found.reverse_kl < 0.002


def test_a_mixture_of_another_name():
    with pytest.raises(ConfigError, match=r"^mixture = 'spiral' cannot be used"):
        mixture("spiral")  # type: ignore[arg-type]


def test_stacks_hold_the_images_they_name_and_their_classes_as_digits():
    data = uint8_data(7)._replace(label=jnp.asarray([3, 1, 4, 1, 5, 9, 2], jnp.int32))
    index = jnp.asarray([[0, 1, 2], [5, 5, 6]], jnp.int32)
    batch = jax.jit(stacked)(data, index)
    assert batch.label.tolist() == [314, 992]
    assert batch.image.shape == (2, 4, 4, 3)
    for n, row in enumerate([[0, 1, 2], [5, 5, 6]]):
        for channel, i in enumerate(row):
            np.testing.assert_allclose(
                batch.image[n, :, :, channel], np.asarray(data.image)[i, :, :, 0] / 255, rtol=1e-6
            )
    assert stacked(data, index[:, :2], num_classes=20).label.tolist() == [3 * 20 + 1, 9 * 20 + 9]


def test_stacks_are_drawn_evenly_and_independently():
    data = uint8_data(5)
    index = np.asarray(stacks(jax.random.key(3), data, n=20_000, stack=4))
    assert index.shape == (20_000, 4)
    for channel in range(4):
        np.testing.assert_allclose(np.bincount(index[:, channel], minlength=5) / 20_000, 0.2, atol=0.015)
    pairs = np.bincount(5 * index[:, 0] + index[:, 3], minlength=25) / 20_000
    np.testing.assert_allclose(pairs, 1 / 25, atol=0.008)


TINY = replace(gaussians.RECIPE, hidden=(6,), steps=20, batch_size=8)


def small(out: Path, **changes: Any) -> gaussians.Gaussians:
    settings = {"mixtures": ("ring",), "gan": TINY, "seeds": 2, "log_every": 5, "evaluate_every": 10, "out": out}
    return gaussians.Gaussians(**(settings | changes))


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    out = tmp_path_factory.mktemp("gaussians")
    gaussians.run(small(out))
    return out


def test_gaussians_tabulates_the_final_evaluation_beside_floor_and_published_rows(ring):
    result = json.loads((ring / "results.json").read_text())
    evaluations = [row for row in read_metrics(ring / "ring") if row["phase"] == "gan-scores"]
    assert [row["step"] for row in evaluations] == [10, 20]
    found = {(row["arm"], row["metric"]): row for row in result["rows"]}
    for metric, better in (("modes", max), ("high_quality", max), ("reverse_kl", min)):
        assert found["ours, final", metric]["values"] == evaluations[-1][metric]
        best = [better(one[metric][m] for one in evaluations) for m in range(2)]
        assert found["ours, best evaluation", metric]["values"] == best
    assert found["PacGAN2", "reverse_kl"]["published"] == 0.07
    assert found["ours, final", "modes"]["floor"] == 8
    assert found["ours, final", "high_quality"]["floor"] == pytest.approx(0.98889, abs=1e-5)
    # Of 8 equal modes in 2,500 samples: about (8 - 1) / (2 x 2,500).
    assert found["ours, final", "reverse_kl"]["floor"] == pytest.approx(0.0014, rel=0.1)
    table = (ring / "results.md").read_text()
    assert "| ring | *a perfect generator* | 8 | 0.9889 |" in table
    assert "| ring | PacGAN4 | 7.8 | 0.959 | 0.07 |" in table
    assert (ring / "ring" / "samples" / "0000020.png").stat().st_size > 1000


def test_gaussians_keeps_what_is_finished_and_refuses_other_settings(ring):
    before = (ring / "ring" / "metrics.jsonl").read_bytes()
    first = json.loads((ring / "results.json").read_text())["rows"]
    gaussians.run(small(ring))
    assert (ring / "ring" / "metrics.jsonl").read_bytes() == before
    assert json.loads((ring / "results.json").read_text())["rows"] == first
    with pytest.raises(ConfigError, match=r"another configuration .*options\.gan\.batch_size: 8 there, 16 here"):
        gaussians.run(small(ring, gan=replace(TINY, batch_size=16)))


def test_a_stopped_study_says_how_to_go_on(monkeypatch, tmp_path):
    def stop(case, **intervals):
        raise StoppedError("Stopped.")

    monkeypatch.setattr("saegan_jax.runs.modes.case.train_case", stop)
    outcome = command("gaussians", "--out", tmp_path)
    assert outcome.code == 130
    assert "Stopped. To continue: " in outcome.err


def test_an_interval_that_does_not_fit_is_named_as_its_option_is(tmp_path):
    with pytest.raises(ConfigError, match=r"^evaluate_every = 12 cannot be used: .*multiple of log_every = 5"):
        gaussians.run(small(tmp_path / "out", evaluate_every=12))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("seeds", {"seeds": 0}),
        ("mixtures", {"mixtures": ()}),
        ("gan.network", {"gan": GANConfig(network="dcgan")}),
        ("results", {"results": Path("x.md")}),
    ],
)
def test_bad_settings_of_gaussians(field, settings, tmp_path):
    with pytest.raises(ConfigError) as error:
        small(tmp_path, **settings)
    assert error.value.field == field


class Classifier:
    """Reads the class off an image's first pixel, tenths of 250 grey levels."""

    hash, accuracy = "0123456789abcdef", 1.0

    def predict_labels(self, images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (8, 8, 1)
        return images[:, 0, 0, 0].astype(np.int32) // 25


def marked(n: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    label = np.arange(n, dtype=np.int32) % 10
    image = rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    image[:, 0, 0, 0] = 25 * label + 3
    return Split(image, label)


DATA = Dataset("marked", marked(60, 0), marked(20, 1), marked(30, 2), 10)
STACKED = GANConfig(network="unrolled", steps=4, batch_size=4)


def options(out: Path, **changes: Any) -> stacked_mnist.StackedMNIST:
    settings = {"protocols": ("quarter",), "gan": STACKED, "seeds": 2, "log_every": 2, "evaluate_every": 2, "out": out}
    return stacked_mnist.StackedMNIST(**(settings | changes))


def case(name: str, out: Path, **changes: Any) -> Any:
    return stacked_mnist.case_of(options(out, **changes), name, DATA, Classifier())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "stack", "images"), [("quarter", 3, 60), ("half", 3, 60), ("veegan", 3, 90), ("four", 4, 60)]
)
def test_protocols_draw_real_stacks_that_the_classifier_reads_back(name, stack, images, tmp_path):
    one = case(name, tmp_path, own_networks=True)
    assert len(one.data[0].label) == images  # the fixed set is made of test images too
    batches = [jax.jit(one.draw)(jax.random.key(i), one.data) for i in range(30)]
    image = np.concatenate([b.image for b in batches])
    assert image.shape == (120, 8, 8, stack)
    label = measuring.stacked_labels(Classifier(), image)  # type: ignore[arg-type]
    assert label.tolist() == np.concatenate([b.label for b in batches]).tolist()
    assert len(set(label.tolist())) > 90
    assert label.max() >= 10 ** (stack - 1)
    assert one.floors["modes"] == 10**stack


def test_protocols_fix_the_networks(tmp_path):
    widths = {
        name: (c.network, c.width, c.d_width) for name in ("quarter", "half") for c in [case(name, tmp_path).config]
    }
    assert widths == {"quarter": ("unrolled", 8, 2), "half": ("unrolled", 8, 4)}
    own = case("veegan", tmp_path, own_networks=True, gan=replace(STACKED, width=3)).config
    assert (own.network, own.width, own.batch_size) == ("unrolled", 3, 4)


def test_the_floor_knows_that_classes_are_not_equally_frequent(tmp_path, monkeypatch):
    """Equal classes add nothing; a class that is missing does."""
    equal = case("quarter", tmp_path).floors["reverse_kl"]
    assert equal == pytest.approx(reverse_kl_floor(25_600, num_modes=1000).mean, rel=1e-6)
    train = DATA.train
    uneven = Dataset("uneven", Split(train.image[:57], train.label[:57]), DATA.validation, DATA.test, 10)
    monkeypatch.setitem(globals(), "DATA", uneven)
    assert case("quarter", tmp_path).floors["reverse_kl"] > equal + 1e-3


def test_each_kind_of_networks_has_its_settings():
    tiny = stacked_mnist.parse_options(["--seeds", "3"])
    assert (tiny.protocols, tiny.gan) == (("quarter", "half"), stacked_mnist.RECIPE)
    large = stacked_mnist.parse_options(["--protocols", "four", "veegan", "--gan.steps", "7", "--seeds", "2"])
    assert (large.protocols, large.gan.steps, large.seeds) == (("four", "veegan"), 7, 2)
    assert large.gan == replace(DCGAN_RECIPE, steps=7)
    with pytest.raises(ConfigError, match="two commands"):
        stacked_mnist.StackedMNIST(protocols=("half", "four"))


def test_stacked_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(stacked_mnist, "load", lambda name, **folders: DATA)
    monkeypatch.setattr(stacked_mnist, "load_feature_network", lambda dataset: Classifier())
    monkeypatch.setitem(PROTOCOLS, "quarter", PROTOCOLS["quarter"]._replace(samples=200))
    stacked_mnist.run(options(tmp_path))
    result = json.loads((tmp_path / "results.json").read_text())
    found = {(row["arm"], row["metric"]): row for row in result["rows"]}
    ours = found["ours, final", "modes"]["values"]
    assert len(ours) == 2
    assert all(1 <= modes <= 200 for modes in ours)
    assert all(0 < kl <= np.log(1000) for kl in found["ours, final", "reverse_kl"]["values"])
    assert found["PacDCGAN4", "modes"]["published"] == 667
    assert "| quarter | DCGAN | 30.6 | 5.99 |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "quarter" / "samples" / "0000004.png").exists()


def test_a_member_that_failed_is_shown_and_not_averaged_away(tmp_path):
    one = case("quarter", tmp_path)
    one.folder.mkdir()
    one.folder.joinpath("metrics.jsonl").write_text(
        '{"phase": "gan-scores", "step": 2, "modes": [5.0, 7.0], "reverse_kl": [1.0, 2.0]}\n'
        '{"phase": "gan-scores", "step": 4, "modes": [NaN, 9.0], "reverse_kl": [NaN, 1.5]}\n'
    )
    made = rows_of(one, STACKED_METRICS)
    found = {(row["arm"], row["metric"]): row for row in made}
    final = found["ours, final", "modes"]
    assert (final.mean, final.low, final.values) == (None, None, (None, 9.0))
    assert found["ours, best evaluation", "modes"].values == (5.0, 9.0)
    table = tables(Result.here("n", "command", made, note="note"), STACKED_METRICS)
    assert "| quarter | ours, final | 1 of 2 failed | 1 of 2 failed |" in table


def test_a_broken_generator_is_scored_as_failed(tmp_path, monkeypatch):
    one = case("quarter", tmp_path)
    images = np.stack([np.full((5, 8, 8, 3), np.nan), np.zeros((5, 8, 8, 3))])
    monkeypatch.setattr(measuring, "draw", lambda algorithm, state, **how: images)
    modes = one.score(0, None).values["modes"]
    assert np.isnan(modes[0])
    assert modes[1] == 1
