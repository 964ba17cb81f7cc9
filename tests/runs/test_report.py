"""`saegan report`: a page of a run of any system, of a result, and what it says where there is none."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from command_line import QUICK_TO_COMPILE, command, tiny, tree
from PIL import Image

from saegan_jax import cli
from saegan_jax.algorithms.base import Algorithm
from saegan_jax.algorithms.energy import EnergyConfig
from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.algorithms.registry import build
from saegan_jax.algorithms.sae import SAEConfig
from saegan_jax.algorithms.vae import VAEConfig
from saegan_jax.data import Dataset, load
from saegan_jax.errors import ConfigError
from saegan_jax.report.page import run_html
from saegan_jax.runs.options import TrainSAE
from saegan_jax.runs.page import Subject, page_of
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.report import Report, load_trained_on, run
from saegan_jax.runs.restore import Restored

RESULTS = Path(__file__).parents[2] / "experiments" / "results"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A run of the main job, its samples not scored for the test's sake, and what was printed."""
    folder = tmp_path_factory.mktemp("runs") / "job"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saegan_jax.runs.train.saegan.sample_rows", lambda *a: {})
        patch.setattr("saegan_jax.runs.session.Run.sample_evaluator", lambda *a: None)
        words = tiny(
            "train_saegan", *QUICK_TO_COMPILE, "--discriminator", "pixels", "--evaluate", "--seeds", 2, "--out", folder
        )
        outcome = command("train_saegan", *words)
    assert outcome.code == 0, outcome.err
    return folder, outcome.out


def report(*arguments, **options) -> Report:
    return Report(*arguments, **options)


def data_of(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_main_job_ends_with_its_page(job):
    folder, out = job
    assert f"{folder / 'report.html'} is the page of this run" in out.replace("\n", "")
    assert "saegan report" not in out
    data = data_of(folder / "report.html")
    columns = data["atlas"]["columns"]
    assert columns["unit"] == list(range(8))
    assert data["atlas"]["d_sae"] == 8
    assert all(0 <= d <= 1 for d in columns["density"])
    assert data["atlas"]["sheets"]["strips"]["size"] == 8 * 2 * 5
    assert max(max(top) for top in columns["top"]) < data["atlas"]["sheets"]["images"]["size"]
    assert [s["name"] for s in data["frames"]] == ["gan"]
    text = (folder / "report.html").read_text()
    assert all(f'id="{name}"' in text for name in ("scores", "curves", "interpolation", "nearest", "configuration"))


def test_the_command_makes_the_same_page_and_that_of_another_member(job, tmp_path, capsys):
    folder, _ = job
    before = tree(folder)
    run(report(run=folder, out=tmp_path / "a.html"))
    assert (tmp_path / "a.html").read_text() == (folder / "report.html").read_text()
    assert "to be opened in a browser" in capsys.readouterr().out
    run(report(run=folder, out=tmp_path / "b.html", member=1, features=3))
    other = data_of(tmp_path / "b.html")["atlas"]
    density = data_of(tmp_path / "a.html")["atlas"]["columns"]["density"]
    assert (len(other["columns"]["unit"]), other["d_sae"]) == (3, 8)
    assert other["columns"]["density"] != density[:3]
    assert tree(folder) == before


SETTINGS = {
    "sae": SAEConfig(d_sae=6),
    "gan": GANConfig(network="mlp", hidden=(8,), d_noise=4),
    "vae": VAEConfig(d_latent=4),
    "energy": EnergyConfig(sae=SAEConfig(d_sae=6, auxk=0.0, resample_every=0, sparsity_warmup=0, decoder_norm=3.0)),
}


@pytest.mark.parametrize(
    ("system", "features", "ways", "beside"),
    [("sae", 6, False, True), ("gan", None, True, True), ("vae", None, True, True), ("energy", 6, True, True)],
)
def test_a_page_of_every_system_shows_what_it_has(system, features, ways, beside, tmp_path):
    settings, dataset = SETTINGS[system], load("digits")
    algorithm = build(settings, image_shape=(8, 8, 1), n_classes=10)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    read = TRAININGS[system].autoencoder
    sae = None if read is None else read(settings, state)
    config = {"script": system, "image_shape": [8, 8, 1], "options": {"dataset": "digits", "seeds": 1}}
    page = page_of(Subject(tmp_path, config, 0, 0, algorithm, state, sae, dataset), features=10, seed=0)
    assert (None if page.atlas is None else len(page.atlas["columns"]["unit"])) == features
    assert (page.dictionary is not None) == (features is not None)
    assert bool(page.interpolation) == bool(page.truncation) == ways
    assert (len(page.nearest) == 2) == beside
    if features:
        assert page.atlas["levels"] == []  # no generator reads these codes


def test_a_run_that_draws_nothing_and_has_no_labels_has_a_page_of_what_it_left(tmp_path):
    """As a CycleGAN."""
    shutil.copy(RESULTS / "saegan_digits.png", tmp_path / "0000100.png")
    (tmp_path / "samples").mkdir()
    (tmp_path / "0000100.png").rename(tmp_path / "samples" / "0000100.png")
    (tmp_path / "metrics.jsonl").write_text('{"phase": "cyclegan", "step": 100, "cycle": 0.5}\n')
    config = {"script": "cyclegan", "image_shape": [8, 8, 1], "options": {"domains": "digits_inverted_rotated"}}
    algorithm = Algorithm(lambda key: None, lambda state, batch: (state, None))
    page = page_of(Subject(tmp_path, config, 100, 0, algorithm, (), None, None), features=10, seed=0)
    assert [series["name"] for series in page.frames] == ["samples"]
    assert (page.atlas, page.dictionary, page.interpolation, page.nearest) == (None, None, [], [])
    assert page.facts["data"] == "digits_inverted_rotated"
    assert 'id="curves"' in run_html(page)


def subject_of_features(folder: Path, images: Dataset, **options) -> Subject:
    """An untrained autoencoder of such images."""
    settings = SETTINGS["sae"]
    algorithm = build(settings, image_shape=images.image_shape)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    config = {"script": "sae", "image_shape": images.image_shape, "options": {"dataset": "digits"} | options}
    return Subject(folder, config, 0, 0, algorithm, state, (settings, state.params), images)


def test_images_are_read_as_for_the_training(tmp_path):
    """Files of several sizes can be read by no other way."""
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for i in range(10):
            Image.fromarray(rng.integers(0, 256, (8 + i, 9), dtype=np.uint8)).save(tmp_path / kind / f"{i}.png")
    trained = TrainSAE(dataset=f"folder:{tmp_path}", image_size=8, channels=3)
    restored = Restored(TRAININGS["sae"], trained, SETTINGS["sae"], (8, 8, 3), None, None, 1, 0, 2)
    found = load_trained_on(restored, report(run=tmp_path))
    assert found.image_shape == (8, 8, 3)
    page = page_of(subject_of_features(tmp_path, found, dataset=trained.dataset), features=10, seed=0)
    assert page.atlas["class_names"] == ["cat", "dog"]
    assert page.facts["data"] == page.configuration["dataset"] == f"folder:{tmp_path.name}"
    assert str(tmp_path.parent) not in run_html(page)


def test_of_images_without_labels_no_class_is_shown(tmp_path):
    digits = load("digits")
    splits = {name: getattr(digits, name) for name in ("train", "validation", "test")}
    splits = {name: split._replace(label=np.zeros_like(split.label)) for name, split in splits.items()}
    dataset = replace(digits, **splits, num_classes=1, labelled=False)
    page = page_of(subject_of_features(tmp_path, dataset), features=10, seed=0)
    assert {"purity", "label"}.isdisjoint(page.atlas["columns"])
    assert [page.atlas[name] for name in ("class_names", "image_label", "purity_floor")] == [None] * 3
    assert "class" not in re.findall('placeholder="(.*?)"', run_html(page))[0]


def test_a_damaged_summary_is_refused_in_a_sentence(tmp_path):
    subject = subject_of_features(tmp_path, load("digits"))._replace(sae=None)
    (tmp_path / "summary.json").write_text('{"rows": {"a": 1}}')
    with pytest.raises(ConfigError, match=r"its summary\.json is damaged"):
        page_of(subject, features=10, seed=0)


def test_weights_that_are_not_finite_leave_a_page_without_features(tmp_path):
    settings = SETTINGS["sae"]
    algorithm = build(settings, image_shape=(8, 8, 1))
    state = algorithm.init(jax.random.key(0))
    broken = jax.tree.map(lambda x: x * np.float32("nan"), state.params)
    config = {"script": "sae", "image_shape": [8, 8, 1], "options": {"dataset": "digits"}}
    sae = (settings, broken)
    page = page_of(Subject(tmp_path, config, 0, 0, algorithm, state, sae, load("digits")), features=10, seed=0)
    assert page.atlas is None
    assert "not finite" in page.facts["features"]


def test_a_result_has_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(report(run=RESULTS / "compare_digits.json"))
    assert "Frechet / floor" in (tmp_path / "compare_digits.html").read_text()


def refused(tmp_path, message: str, **options) -> None:
    """The error names the field and the way out, and nothing is written."""
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=message) as error:
        run(report(**options))
    assert len(str(error.value)) < 400
    assert tree(tmp_path) == before


def test_what_cannot_be_shown_is_one_paragraph(job, tmp_path):
    folder, _ = job
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "text.json").write_text("no JSON")
    young = tmp_path / "young"
    young.mkdir()
    (young / "config.json").write_bytes((folder / "config.json").read_bytes())
    refused(tmp_path, "run = .*empty.*there is no config.json in it", run=tmp_path / "empty")
    refused(tmp_path, "run = .*none.*there is no config.json in it", run=tmp_path / "none")
    refused(tmp_path, "checkpoints = .*young.*nothing has been saved yet", run=young)
    for name in ("other.json", "text.json"):
        refused(tmp_path, f"result = .*{name}.*it is not a published result", run=tmp_path / name)
    rowless = json.loads((RESULTS / "saegan_digits.json").read_text()) | {"rows": []}
    (tmp_path / "rowless.json").write_text(json.dumps(rowless))
    refused(tmp_path, "it has no rows", run=tmp_path / "rowless.json", out=tmp_path / "a.html")


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_drawn(job, tmp_path, monkeypatch):
    folder, _ = job
    monkeypatch.setattr("saegan_jax.runs.report.restore_run", lambda *a, **k: pytest.fail("the run was read"))
    (tmp_path / "there.html").mkdir()
    (tmp_path / "file").write_text("")
    refused(tmp_path, "out = .*it is a folder; name a file in it", run=folder, out=tmp_path / "there.html")
    refused(tmp_path, "out = .*is a file, and nothing can be written", run=folder, out=tmp_path / "file" / "a.html")
    refused(tmp_path, "out = .*ends in .html", run=folder, out=tmp_path / "a.pdf")
    monkeypatch.setattr("os.access", lambda *a: False)
    refused(tmp_path, "you may not write in", run=folder, out=tmp_path / "a.html")


def test_the_command_line_reads_the_run_without_a_flag(tmp_path, monkeypatch, capsys):
    module, rest, _ = cli.module_of(["report", "runs/first", "--features", "5"])
    assert module.parse_options(rest) == Report(run=Path("runs/first"), features=5)
    monkeypatch.setattr("sys.argv", ["saegan", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "there is no config.json in it" in err
    assert "Traceback" not in err
