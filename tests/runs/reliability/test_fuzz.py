"""Settings and files drawn at random: what is judged a fault, and that a few of each kind have none."""

import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saegan_jax.algorithms.gan import GANConfig
from saegan_jax.errors import ConfigError
from saegan_jax.runs.control import file_image
from saegan_jax.runs.registry import TRAININGS
from saegan_jax.runs.reliability import fuzz_files, fuzz_settings
from saegan_jax.runs.reliability.fuzz_files import Kind, draw_files
from saegan_jax.runs.reliability.fuzz_settings import BASES, changed, draw_settings, fields_of
from saegan_jax.runs.reliability.rows import fuzz_rows


def test_a_few_settings_of_every_system_are_traced_or_refused():
    assert set(BASES) == set(TRAININGS)
    found = list(draw_settings(each=4, executed=0, seed=3))
    assert [one for one in found if one.fault] == []
    assert {one.outcome for one in found} == {"refused", "traced"}
    assert [one.changes for one in found][:6] == [one.changes for one in draw_settings(each=4, executed=0, seed=3)][:6]
    rows = {(row.arm, row.metric): row for row in fuzz_rows(found, [])}
    assert rows["all settings", "settings"]["of"] == len(found)


def test_accepted_settings_take_two_steps():
    one = fuzz_settings.judge("vae", {"kind": "sparse"}, execute=True)
    assert (one.outcome, one.fault) == ("run", "")


def test_a_foreign_error_or_another_state_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def foreign(*arguments: object, **options: object) -> None:
        np.zeros(3).reshape(2)

    monkeypatch.setattr(fuzz_settings, "abstract_system", foreign)
    assert "cannot reshape" in fuzz_settings.judge("gan", {}, execute=False).fault
    monkeypatch.setattr(fuzz_settings, "PACKAGE", str(Path(__file__).parent))  # as if this file were of the package
    for slip, said in ((lambda: int("x"), "invalid literal"), (lambda: [a for a, b in ["abc"]], "too many values")):
        monkeypatch.setattr(fuzz_settings, "abstract_system", lambda *_, slip=slip, **__: slip())
        assert said in fuzz_settings.judge("gan", {}, execute=False).fault

    def own(*arguments: object, **options: object) -> None:
        raise ValueError("use fewer")

    monkeypatch.setattr(fuzz_settings, "abstract_system", own)
    assert fuzz_settings.judge("gan", {}, execute=False).fault == ""
    monkeypatch.undo()
    assert fuzz_settings.judge("gan", {"width": -1}, execute=False).outcome == "refused"


def test_settings_are_changed_by_path_and_checked():
    base = BASES["saegan"]
    found = changed(base, {"gan.hidden": (5,), "gan.loss": "hinge", "alignment": 0.5})
    assert (found.gan.hidden, found.gan.loss, found.alignment, found.sae) == ((5,), "hinge", 0.5, base.sae)
    assert {"gan.loss", "sae.k", "discriminator"} <= fields_of(base).keys()
    with pytest.raises(ConfigError, match="hinged"):
        changed(base, {"gan.loss": "hinged"})
    assert fields_of(GANConfig()).keys() == fields_of(BASES["gan"]).keys()


def test_a_few_damaged_files_of_every_kind_are_taken_or_refused():
    found = list(draw_files(each=8, seed=1))
    assert [one for one in found if one.fault] == []
    for kind in dict.fromkeys(one.kind for one in found):
        assert "refused" in {one.outcome for one in found if one.kind == kind}, kind


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("it ran",))


@pytest.mark.parametrize(
    ("read", "seen"),
    [
        (lambda folder: pickle.loads((folder / "x").read_bytes()), "pickle.find_class"),
        (lambda folder: subprocess.run(["true"], check=True), "subprocess.Popen"),
        (lambda folder: (folder.parent / "saegan-jax-elsewhere").write_text(""), "writes "),
        (lambda folder: np.load(folder / "x"), "ValueError: "),
    ],
)
def test_code_and_writes_elsewhere_are_seen(read, seen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fuzz_files.tempfile, "tempdir", str(tmp_path))
    found = fuzz_files.judge("x", Kind(b"", "x", read, {}), pickle.dumps(Evil()))
    assert seen in found.fault


def test_what_is_written_into_its_own_folder_is_no_fault():
    kind = Kind(b"", "x", lambda folder: (folder / "y").write_text(""), {})
    assert fuzz_files.judge("x", kind, b"").fault == ""


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(40), b"", b"BM" + b"\xff" * 60])
def test_files_that_are_no_images_are_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ConfigError, match=r"like = '.*x\.png' cannot be used: it cannot be read as an image"):
        file_image(str(tmp_path / "x.png"), (8, 8, 1), "like")


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.new("1", (500, 400)).save(tmp_path / "x.png")
    with pytest.raises(ConfigError, match=r"the image has 500x400 pixels and the run's 8x8"):
        file_image(str(tmp_path / "x.png"), (8, 8, 1), "like")
