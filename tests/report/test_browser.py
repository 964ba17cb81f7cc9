"""The page of a run in a browser: no error, and the slider, the search and the keys do what they say."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_data import synthetic_atlas, synthetic_page

from saegan_jax.report.atlas import atlas_data
from saegan_jax.report.page import run_html

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e '.[browser]'")
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="there is no chromium or no chromedriver: install both with the system"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A browser with the page of 200 features open."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(run_html(synthetic_page(units=200)))
    with opened(path) as driver:
        yield driver


def opened(path: Path, *, width: int = 1200):
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    for flag in (*flags, "--disable-dev-shm-usage", f"--window-size={width},900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.get(path.as_uri())
    return driver


def run(browser, script: str):
    return browser.execute_script(f"return {script}")


def becomes(browser, script: str, value) -> None:
    """Wait until the script returns the value: what the browser does by itself takes a moment."""
    from selenium.webdriver.support.ui import WebDriverWait

    said = f"{script} is not {value!r}"
    WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda _: run(browser, script) == value, said)


def keys(browser, *pressed: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*pressed).perform()


def search(browser, text: str) -> str:
    """What the page says it has found."""
    script = "const s = document.getElementById('search'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
    browser.execute_script(script, text)
    return run(browser, "document.getElementById('found').textContent")


def test_nothing_goes_wrong_and_nothing_is_as_wide_as_to_scroll(browser):
    assert browser.get_log("browser") == []
    assert run(browser, "document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert run(browser, "document.querySelectorAll('#panels .panel svg path.mean').length") == 3
    drawn = "document.querySelector('.card canvas').getContext('2d').getImageData(0, 0, 8, 8).data.some((v) => v > 0)"
    becomes(browser, drawn, True)  # once the sheet is decoded


def test_the_slider_changes_the_picture(browser):
    said = "document.querySelector('#frames output').textContent"
    assert run(browser, said) == "step 300"
    script = "const s = document.querySelector('#frames input'); s.value = 0; s.dispatchEvent(new Event('input'))"
    browser.execute_script(script)
    assert run(browser, said) == "step 100"
    assert run(browser, "document.querySelector('#frames img').alt") == "<b>x</b> at step 100"


def test_a_curve_says_its_values_beside_the_pointer(browser):
    """Of lines of different steps each says its own nearest one, and the title the nearest of all."""
    script = """
        const picture = document.querySelector("#panels .panel svg"), box = picture.getBoundingClientRect();
        const ratio = Math.min(box.width / 360, box.height / 200), margin = (box.width - 360 * ratio) / 2;
        const clientX = box.left + margin + ratio * (46 + (1000 - 100) / 3800 * (360 - 54));
        picture.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY: box.top + 50 }));
        const panel = picture.parentElement;
        return [panel.querySelector("h3").textContent, panel.querySelector(".legend").textContent]
    """
    title, legend = browser.execute_script(script)
    assert title.endswith("at step 1,000")
    assert legend == "generator_loss 0.15critic_loss 0.5"


def test_rows_far_below_are_not_drawn_before_they_are_seen(browser):
    search(browser, "")
    filled = "[...document.querySelectorAll('.card')].filter((c) => c.firstChild).length"
    assert 0 < run(browser, filled) < 120
    assert run(browser, "document.querySelectorAll('.card').length") == 200


def test_search_finds_numbers_classes_and_ranges(browser):
    columns = "DATA.atlas.columns"
    assert search(browser, "12") == "1 of 200 features"
    assert run(browser, "document.querySelector('.card').getAttribute('aria-label')").startswith("feature 12,")
    sparse = run(browser, f"{columns}.density.filter((d) => d < 0.25).length")
    assert search(browser, "density<0.25") == f"{sparse} of 200 features"
    zero = run(browser, f"{columns}.label.filter((c) => c === 0).length")
    assert search(browser, "zero") == f"{zero} of 200 features"
    both = run(browser, f"{columns}.label.filter((c, i) => c === 0 && {columns}.purity[i] >= 0.5).length")
    assert search(browser, "zero purity>=0.5") == f"{both} of 200 features"
    assert search(browser, "nothing like it") == "0 of 200 features"
    assert search(browser, "") == "200 features"


def test_features_are_sorted_both_ways(browser):
    search(browser, "")
    choose = "const s = document.getElementById('sort'); s.value = 'number'; s.dispatchEvent(new Event('change'))"
    browser.execute_script(choose)
    first = "document.querySelector('.card').dataset.row"
    assert run(browser, first) == "199"
    browser.execute_script("document.getElementById('order').click()")
    assert run(browser, first) == "0"


def test_the_page_is_used_by_the_keyboard_alone(browser):
    from selenium.webdriver.common.keys import Keys

    browser.execute_script("document.activeElement.blur()")
    keys(browser, "/")
    assert run(browser, "document.activeElement.id") == "search"
    search(browser, "feature<6")
    keys(browser, Keys.ENTER)
    focused = "document.activeElement.dataset.row"
    assert run(browser, focused) == "0"
    keys(browser, Keys.ARROW_RIGHT)
    assert run(browser, focused) == "1"
    keys(browser, Keys.ENTER)
    title = "document.getElementById('feature-title').textContent"
    becomes(browser, "document.getElementById('feature').open", True)
    assert run(browser, title) == "Feature 1"
    assert run(browser, "document.querySelectorAll('#feature .strip canvas').length") == 10
    keys(browser, Keys.ARROW_RIGHT)
    becomes(browser, title, "Feature 2")
    assert run(browser, "location.hash") == "#feature-2"
    keys(browser, Keys.ESCAPE)
    becomes(browser, "document.getElementById('feature').open", False)
    becomes(browser, focused, "2")
    # Names are text wherever the script puts them.
    assert run(browser, "document.querySelectorAll('b').length === document.querySelectorAll('.card-text > b').length")
    assert browser.get_log("browser") == []


def test_features_of_images_without_labels_have_no_class(tmp_path):
    atlas = atlas_data(synthetic_atlas(3, 8), class_names=None)
    path = tmp_path / "report.html"
    path.write_text(run_html(synthetic_page(units=3, atlas=atlas)))
    with opened(path) as browser:
        run(browser, "document.querySelector('.card').click()")
        becomes(browser, "document.getElementById('feature').open", True)
        shown = run(browser, "document.getElementById('atlas').textContent")
        assert "purity" not in shown
        assert "class" not in shown
        assert run(browser, "document.querySelectorAll('#feature .row canvas').length") == 8 + 6
        assert browser.get_log("browser") == []
