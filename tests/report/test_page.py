"""The HTML pages: every section, nothing from the network, text as text, and a size that a browser takes."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import png
from page_data import NASTY, synthetic_atlas, synthetic_page
from PIL import Image

from saegan_jax.report.atlas import atlas_data
from saegan_jax.report.axes import Axis
from saegan_jax.report.frames import picture_series, within
from saegan_jax.report.page import RunPage, curve_panels, run_html
from saegan_jax.report.result_page import result_html
from saegan_jax.report.sprites import next_shrink, sheet, sheets
from saegan_jax.report.table import Result, Row

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


class Page(HTMLParser):
    """Ids, addresses, tags and visible text of a document; tags must be closed in order."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.append(tag)
        self.ids += [named["id"]] if "id" in named else []
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data", "poster")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)


def check_alone(text: str) -> Page:
    """The page, which names no address but its own sections and data of its own."""
    page = Page(text)
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in page.addresses)
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    without_data = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "", text)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(|<link|<iframe|fetch\(|XMLHttpRequest", without_data)
    return page


SECTIONS = [
    "samples",
    "scores",
    "curves",
    "atlas",
    "dictionary",
    "interpolation",
    "truncation",
    "nearest",
    "alarms",
    "configuration",
]


def test_the_page_of_a_run_has_every_section_and_no_address():
    page = check_alone(run_html(synthetic_page()))
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert page.tags.count("h1") == 1
    # What is given is text: no tag comes of it, and the data end where they should.
    assert "b" not in page.tags
    assert page.texts["h1"] == [f"run {NASTY}"]
    assert NASTY in page.texts["title"][0]
    assert sum(NASTY in text for text in page.texts["td"]) == 3  # of a score, an alarm and the configuration
    (data,) = (text for text in page.texts["script"] if text.startswith("{"))
    assert json.loads(data)["atlas"]["class_names"] == ["zero", NASTY, "</script>"]


def test_a_page_shows_what_there_is():
    page = check_alone(run_html(RunPage(title="young")))
    assert [name for name in page.ids if name in SECTIONS] == ["alarms"]
    assert "None began." in page.texts["p"]


def test_curves_are_thinned_gaps_stay_and_alarms_are_marked():
    rows = [{"phase": "gan", "step": i, "loss": [float(i), float("nan")], "steps_per_second": 1.0} for i in range(1000)]
    alarms = [{"phase": "gan", "step": 7, "kind": "divergence", "state": s} for s in ("begins", "ends")]
    (panel,) = curve_panels(rows, [*alarms, {"phase": "sae", "step": 9, "kind": "divergence", "state": "begins"}])
    (line,) = panel["lines"]
    assert (panel["phase"], line["name"], len(line["steps"])) == ("gan", "loss", 400)
    assert (line["steps"][0], line["steps"][-1]) == (0, 999)
    assert line["values"][0][-1] == 999
    assert set(line["values"][1]) == {None}
    assert panel["alarms"] == [{"step": 7, "kind": "divergence"}]
    json.dumps(panel, allow_nan=False)


def test_a_thousand_features_are_below_fifteen_megabytes():
    """Even of noise, which no PNG makes smaller."""
    units, side = 1000, 28
    atlas = synthetic_atlas(units, side)
    noise = np.random.default_rng(0).integers(0, 256, atlas.images.shape, dtype=np.uint8)
    strips = noise[: units * 5].reshape(units, 1, 5, side, side, 1) / 255
    data = atlas_data(
        atlas._replace(images=noise), class_names=["a", "b", "c"], strips=strips, levels=(0.0, 0.5, 1.0, 2.0, 4.0)
    )
    text = run_html(RunPage(title="large", atlas=data))
    assert len(text) < 15e6
    sizes = {name: (s["width"], s["height"]) for name, s in data["sheets"].items()}
    assert sizes["atoms"] == (side, side)
    assert min(sizes["images"]) >= side / 4
    assert len(data["columns"]["unit"]) == units


def pixels(src: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(",")[1]))))


def test_a_sheet_holds_the_images_in_rows_and_is_shrunk_to_fit():
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 8, 3), dtype=np.uint8)
    one = sheet(images)
    found = pixels(one.src)
    for i, image in enumerate(images):
        y, x = i // one.columns * 4, i % one.columns * 8
        np.testing.assert_array_equal(found[y : y + 4, x : x + 8], image)
    half = sheet(images[:, :, :, :1], shrink=2)
    assert (half.width, half.height) == (4, 2)
    assert pixels(half.src)[0, 0] == round(images[0, :2, :2, 0].mean())
    clear = np.concatenate([images, np.zeros_like(images[..., :1])], axis=3)
    assert (pixels(sheet(clear).src)[:4, :8] == 128).all()
    both = {"a": images.repeat(4, axis=1).repeat(2, axis=2), "b": images, "none": images[:0]}
    assert sheets(both, most=10**6).keys() == {"a", "b"}
    small = sheets(both, most=2500)
    assert small["a"].width < 16
    assert small["b"].width == 8
    assert [next_shrink((28, 28), s) for s in (1, 2, 4, 7)] == [2, 4, 7, None]


def test_pictures_of_a_training_are_ordered_and_thinned(tmp_path):
    for name in ("gan-0000100", "gan-0001000", "gan-0000200", "aggregate-0000100", "0000005-member1", "other"):
        (tmp_path / f"{name}.png").write_bytes(png(np.zeros((4, 4), np.uint8)))
    found = {s["name"]: [p["step"] for p in s["pictures"]] for s in picture_series(tmp_path, most_bytes=10**6)}
    assert found == {"member1": [5], "aggregate": [100], "gan": [100, 200, 1000]}
    assert picture_series(tmp_path / "none", most_bytes=1) == []
    assert within([1] * 10, most=3) == [0, 4, 9]
    assert within([1] * 100, most=1000) == sorted({round(i * 99 / 59) for i in range(60)})
    assert within([5, 5], most=1) == [1]
    assert within([], most=1) == []


def test_an_axis_places_numbers_and_rounds_its_ticks():
    line = Axis.over([1.0, 2.0, None, float("nan")])
    assert not line.log
    assert 0 < line.place(1.0) < line.place(2.0) < 100
    assert line.place(1e9) == 100
    assert all(0 <= at <= 100 for at, _ in line.ticks())
    logarithmic = Axis.over([0.1, 100.0])
    assert logarithmic.log
    assert logarithmic.place(10**0.5) == pytest.approx(50, abs=0.1)
    assert len(logarithmic.ticks()) >= 3
    assert Axis.over([3.0], zero=True).low == 0
    assert Axis.over([]).high > Axis.over([]).low


def test_the_page_of_a_result_shows_intervals_and_every_value():
    change = {"change": 0.5, "low": 0.2, "high": 0.9, "p": 0.01, "verdict": "worse"}
    rows = [
        Row.of("pixels", f"Frechet {NASTY}", [1.25, 2.0, None], floor=1.0, skip_failed=True, fraction=1.0),
        Row.of(NASTY, f"Frechet {NASTY}", [3.0, 4.125, 5.0], published=2.0, fraction=1.0, change=change),
        Row.of(NASTY, f"Frechet {NASTY}", [3.0], fraction=0.1),
        Row.of("pixels", "recall", [], fraction=1.0),
    ]
    result = Result(name=NASTY, command="c", commit="d", device="e", versions={"jax": "1"}, rows=tuple(rows))
    page = check_alone(result_html(result))
    assert "b" not in page.tags
    assert [name for name in page.ids if name.startswith("measure-") and "title" not in name] == [
        "measure-1",
        "measure-2",
    ]
    cells = " ".join(page.texts["td"])
    assert all(number in cells for number in ("1.25", "4.125", "failed"))
    names = page.texts["div"]
    assert f"{NASTY}, fraction 0.1" in names
    assert page.tags.count("circle") == 2 + 3 + 1 + 1  # a seed each, and the change
    assert any("worse" in text for text in page.texts["small"])


@pytest.mark.parametrize("name", ["compare_digits", "compare_mnist_mlp", "stacked_mnist"])
def test_published_results_have_pages(name):
    result = Result.read(RESULTS / f"{name}.json")
    page = check_alone(result_html(result))
    values = [v for row in result.rows for v in row.values if v is not None]
    changes = sum(isinstance(row.get("change"), dict) for row in result.rows)
    assert page.tags.count("circle") == len(values) + changes
