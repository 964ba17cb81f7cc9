"""Pictures: pixels at known places, sizes, and files that show what they should."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saegan_jax.report import dictionary_picture, image_grid, tile, training_curves
from saegan_jax.report.comparison import forest
from saegan_jax.report.curves import collect_series
from saegan_jax.stats import Effect


def test_tile_places_scales_and_rounds() -> None:
    images = np.zeros((3, 2, 3, 1))
    images[0, 1, 2], images[2, 0, 0] = 1.0, 0.5
    canvas = tile(images, columns=2, padding=1, upscale=2)
    assert canvas.shape == (2 * (4 + 1) + 1, 2 * (6 + 1) + 1)
    assert canvas.dtype == np.uint8
    assert (canvas[0] == 255).all()
    assert (canvas[:, 7] == 255).all()  # background between
    assert (canvas[3:5, 5:7] == 255).all()
    assert (canvas[1:3, 1:7] == 0).all()
    assert (canvas[6:8, 1:3] == 128).all()
    assert (canvas[6:, 8:] == 255).all()  # the empty fourth place


def test_default_size_makes_digits_visible() -> None:
    assert tile(np.zeros((4, 8, 8, 1))).shape == (2 * 58 + 2, 2 * 58 + 2)
    assert tile(np.zeros((2, 64, 64, 3), np.uint8), padding=0).shape == (64, 128, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_file(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, channels), dtype=np.uint8)
    path = image_grid(images, tmp_path / "new" / "grid.png", columns=5, padding=0, upscale=1)
    with Image.open(path) as picture:
        assert picture.mode == {1: "L", 3: "RGB"}[channels]
        pixels = np.asarray(picture).reshape(4, 20, channels)
    np.testing.assert_array_equal(pixels, np.concatenate(images, axis=1))
    image_grid(255 - images, path, columns=5, padding=0, upscale=1)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(255 - np.asarray(picture).reshape(pixels.shape), pixels)
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]


def test_dictionary_is_symmetric_about_mid_grey(tmp_path: Path) -> None:
    atoms = np.array([[0, 2, -2, 1], [0, 0, 0, 0], [-4, 1, 0, 0]], np.float32)
    path = dictionary_picture(
        atoms, (2, 2, 1), tmp_path / "w.png", density=[0.1, 0.3, 0.2], columns=3, padding=0, upscale=1
    )
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), [[128, 128, 1, 160, 128, 255], [128, 128, 128, 128, 1, 192]])
    path = dictionary_picture(np.eye(12), (2, 2, 3), path, max_units=2, padding=0, upscale=1)
    with Image.open(path) as picture:
        assert picture.size == (4, 2)
        assert picture.getpixel((0, 0)) == (255, 128, 128)
        assert picture.getpixel((2, 0)) == (128, 255, 128)


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    path = tmp_path / "no.png"
    for bad in (np.zeros((0, 4, 4, 1)), np.zeros((2, 4, 4)), np.zeros((2, 4, 4, 2)), np.zeros((2, 4, 4, 1), int)):
        with pytest.raises(ValueError, match="images must be"):
            image_grid(bad, path)
    with pytest.raises(ValueError, match="non-finite"):
        image_grid(np.full((1, 2, 2, 1), np.nan), path)
    with pytest.raises(ValueError, match="columns"):
        image_grid(np.zeros((1, 2, 2, 1)), path, columns=0)
    with pytest.raises(ValueError, match="W_dec must be"):
        dictionary_picture(np.zeros((3, 5)), (2, 2, 1), path)
    with pytest.raises(ValueError, match="W_dec holds"):
        dictionary_picture(np.full((3, 4), np.inf), (2, 2, 1), path)
    with pytest.raises(ValueError, match="density"):
        dictionary_picture(np.zeros((3, 4)), (2, 2, 1), path, density=[1, 2])
    assert not path.exists()


def test_series_by_phase_and_seed() -> None:
    rows = [
        {"phase": "sae", "step": 20, "loss": [1.0, 2.0], "note": "text", "flag": True, "nested": {"a": 1}},
        {"phase": "sae", "step": 10, "loss": [3.0, None]},
        {"phase": "gan", "step": 10, "loss": 5, "l0": None},
        {"phase": "sae", "step": 20, "loss": [7.0, 8.0]},
    ]
    series = collect_series(rows)
    assert {phase: list(names) for phase, names in series.items()} == {"sae": ["loss"], "gan": ["loss", "l0"]}
    steps, values = series["sae"]["loss"]
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_array_equal(values, [[3, np.nan], [7, 8]])
    np.testing.assert_array_equal(series["gan"]["loss"][1], [[5]])


def curve_rows(seeds: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    names = ("discriminator_loss", "generator_loss", "real_logits", "fake_logits", "r1_penalty", "fvu", "l0")
    value = (lambda: float(rng.normal())) if seeds == 0 else (lambda: rng.normal(size=seeds).tolist())
    return [{"phase": "gan", "step": 100 * i, **{name: value() for name in names}} for i in range(30)]


@pytest.mark.parametrize("seeds", [0, 1, 8])
def test_curves_draw_every_group(tmp_path: Path, seeds: int) -> None:
    with Image.open(training_curves(curve_rows(seeds), tmp_path / "c.png", title="a run")) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    # Five panels of two columns: each place of the grid but the last has blue ink of a first line.
    blue = (pixels[..., 2].astype(int) - pixels[..., 0]) > 100
    height, width = blue.shape
    ink = [
        blue[r * height // 3 : (r + 1) * height // 3, c * width // 2 : (c + 1) * width // 2].sum()
        for r in range(3)
        for c in range(2)
    ]
    assert min(ink[:5]) > 300
    assert ink[5] == 0


def test_curves_survive_divergence_and_one_row(tmp_path: Path) -> None:
    rows = [
        {"step": 0, "loss": [1.0, 1.0]},
        {"step": 1, "loss": [float("nan"), 2.0]},
        {"step": 2, "loss": [float("inf"), 3.0]},
    ]
    assert training_curves(rows, tmp_path / "a.png").stat().st_size > 5000
    assert training_curves(rows[:1], tmp_path / "b.png").stat().st_size > 5000


def test_bad_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        training_curves([{"step": 1}], tmp_path / "c.png")
    with pytest.raises(ValueError, match="no 'step'"):
        training_curves([{"loss": 1}], tmp_path / "c.png")
    with pytest.raises(ValueError, match="number of values"):
        training_curves([{"step": 1, "loss": [1, 2]}, {"step": 2, "loss": 1}], tmp_path / "c.png")


def test_the_picture_of_changes_has_a_panel_a_family(tmp_path: Path) -> None:
    some = {"a": Effect(-0.2, -0.3, -0.1, "better"), "b": Effect(0.5, 0.1, 1e9, "worse")}
    for panels in ({"all": some}, {"all": some, "few": {"b": Effect(0.0, -0.01, 0.01, "absent")}}):
        forest(panels, tmp_path / "f.png", title="t")
        with Image.open(tmp_path / "f.png") as picture:
            assert picture.width == round(120 * (1.8 + 3.2 * len(panels)))
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10
