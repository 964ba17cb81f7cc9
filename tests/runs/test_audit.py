"""`saegan audit`: files in three forms, the report that it writes, and what it refuses before training."""

import io
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from saegan_jax import cli
from saegan_jax.algorithms.sae import sae
from saegan_jax.data import load
from saegan_jax.errors import ConfigError
from saegan_jax.evaluation.audit import default_sae
from saegan_jax.evaluation.audit import run as audit_run
from saegan_jax.report.table import Result
from saegan_jax.runs import image_sets
from saegan_jax.runs.image_sets import read_images
from saegan_jax.training.interchange import export_sae

DIGITS = load("digits").train


@pytest.fixture
def run_audit(monkeypatch, capsys):
    """``saegan audit ...`` in this process: its exit code, and what it said."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["saegan", "audit", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "100")
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, " ".join(said.err.replace("│", " ").split())

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Samples without a 0 as .npz and as a folder, and an exported autoencoder that was not trained."""
    import jax

    folder = tmp_path_factory.mktemp("audit")
    images = DIGITS.image[DIGITS.label != 0][:150]
    np.savez(folder / "fake.npz", images=images)
    (folder / "fakes").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(folder / "fakes" / f"{i:03}.png")
    config = default_sae((8, 8, 1), 300)
    params = jax.jit(sae(config, image_shape=(8, 8, 1)).init)(jax.random.key(0)).params
    export_sae(folder / "sae", config, params, image_shape=(8, 8, 1))
    small = default_sae((6, 6, 1), 300)
    params = jax.jit(sae(small, image_shape=(6, 6, 1)).init)(jax.random.key(0)).params
    export_sae(folder / "small", small, params, image_shape=(6, 6, 1))
    return folder


def test_a_report_is_written_and_read_back(files, run_audit, tmp_path):
    out = tmp_path / "out"
    words = [
        "--real",
        "digits",
        "--fake",
        files / "fake.npz",
        "--sae",
        files / "sae",
        "--out",
        out,
        "--compared",
        "400",
    ]
    code, said, err = run_audit(*words)
    assert (code, err) == (0, "")
    result = Result.read(out / "audit.json")
    assert result.command.startswith("saegan audit --real digits")
    questions = {row.metric: row for row in result.rows if row.arm == "all images"}
    assert set(questions) == {"undescribed", "described", "copies"}
    # The samples are training images of which two thirds train nothing here but are searched.
    assert questions["copies"]["found"]
    assert questions["copies"].floor < questions["copies"].low < questions["copies"].mean
    features = [row for row in result.rows if row.arm != "all images"]
    assert {row.metric for row in features} == {"frequency", "strength"}
    assert any(row["found"] for row in features)
    text = (out / "audit.md").read_text()
    assert "Some fakes are copies of training images" in text
    assert "(audit.png)" in text
    assert "150 fakes" in text
    with Image.open(out / "audit.png") as picture:
        assert picture.size[0] > 300
    assert "audit.json" in said
    # Once more: refused, then replaced.
    code, _, err = run_audit(*words)
    assert code == 2
    assert "it has audit.json and audit.md and audit.png already" in err
    assert run_audit(*words, "--overwrite", "--fdr", "1e-12")[0] == 0
    assert Result.read(out / "audit.json").extra["config"]["audit"]["fdr"] == 1e-12


def damaged_npz(images):
    """The bytes of an .npz whose compressed data begin with a block of no known type."""
    kept = io.BytesIO()
    np.savez_compressed(kept, images=images)
    damaged = bytearray(kept.getvalue())
    name, extra = struct.unpack("<HH", damaged[26:30])
    damaged[30 + name + extra] = 0xFF
    return bytes(damaged)


def test_a_data_set_gives_names_of_classes_and_no_labels_where_they_mean_nothing(monkeypatch):
    named = replace(load("digits"), classes=tuple("abcdefghij"))
    monkeypatch.setattr(image_sets, "load", lambda *_, **__: named)
    found = read_images("digits", "real")
    assert found.classes == named.classes
    np.testing.assert_array_equal(found.labels, named.train.label)
    monkeypatch.setattr(image_sets, "load", lambda *_, **__: replace(named, labelled=False, classes=()))
    assert read_images("digits", "real").labels is None


def test_the_three_forms_are_the_same_images(files, tmp_path):
    fromnpz, fromfolder = (read_images(str(n), "fake") for n in (files / "fake.npz", f"folder:{files / 'fakes'}"))
    np.testing.assert_array_equal(fromnpz.images, fromfolder.images)
    named = read_images("digits", "real")
    np.testing.assert_array_equal(named.images, DIGITS.image)
    np.testing.assert_array_equal(named.labels, DIGITS.label)
    np.savez(tmp_path / "one.npz", DIGITS.image[:3])
    np.testing.assert_array_equal(read_images(str(tmp_path / "one.npz"), "fake").images, DIGITS.image[:3])
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(ConfigError, match="it holds a, b; call the array of images"):
        read_images(str(tmp_path / "two.npz"), "fake")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--fake": "none.npz"}, "fake = 'none.npz' cannot be used: there is no such file"),
        ({"--fake": "folder:"}, "fake = 'folder:' cannot be used: name the folder after the colon"),
        ({"--fake": "folder:nowhere"}, "folder 'nowhere' does not exist"),
        ({"--fake": "text.npz"}, "fake = 'text.npz' cannot be used: it cannot be read as an .npz"),
        ({"--fake": "zlib.npz"}, "fake = 'zlib.npz' cannot be used: it cannot be read as an .npz (error: "),
        ({"--fake": "array.npz"}, "fake = 'array.npz' cannot be used: it cannot be read as an .npz (TypeError: "),
        ({"--fake": "few.npz"}, "fake = '50 images' cannot be used: give at least 100"),
        ({"--fake": "wide.npz"}, "its images have 9x8 pixels and 1 channel, the real ones 8x8"),
        ({"--fake": "nan.npz"}, "hold NaN or infinity"),
        ({"--real": "digitz"}, "dataset='digitz' is unknown"),
        ({"--fdr": "0"}, "fdr = 0.0 cannot be used"),
        ({"--compared": "1290"}, "compared = 1290 cannot be used: of 1297 real images at least 100"),
        ({"--sae": "small"}, "it reads images of 6x6 pixels and 1 channel, and the real ones have 8x8"),
        ({"--sae": "empty"}, "empty"),
        ({"--out": "gs://b/x"}, "out = 'gs:/b/x' cannot be used"),
    ],
)
def test_what_cannot_work_is_one_paragraph_before_training(changes, message, files, run_audit, tmp_path, monkeypatch):
    monkeypatch.setattr(audit_run, "train_sae", lambda *_, **__: pytest.fail("training began"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npz").write_text("no arrays")
    (tmp_path / "zlib.npz").write_bytes(damaged_npz(DIGITS.image[:3]))
    np.save(tmp_path / "array", DIGITS.image[:3])
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    (tmp_path / "empty").mkdir()
    (tmp_path / "small").symlink_to(files / "small")
    np.savez(tmp_path / "few.npz", images=DIGITS.image[:50])
    np.savez(tmp_path / "wide.npz", images=np.zeros((150, 8, 9, 1), np.uint8))
    np.savez(tmp_path / "nan.npz", images=np.full((150, 8, 8, 1), np.nan))
    options = {"--real": "digits", "--fake": files / "fake.npz", "--out": "out"} | changes
    code, said, err = run_audit(*(word for pair in options.items() for word in pair))
    assert (code, said) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
