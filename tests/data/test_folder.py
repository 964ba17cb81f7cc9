"""A folder of images as arrays: labels, sizes, channels, and files that cannot be used."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saegan_jax.data import DataError, decode
from saegan_jax.data.folder import read_folder


def pixels(seed: int, shape: tuple[int, ...] = (4, 6, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two classes, three images each, one of them deeper."""
    for i, name in enumerate(("ant/0.png", "ant/1.png", "ant/deep/2.PNG", "bee/0.bmp", "bee/1.png", "bee/2.png")):
        save(tmp_path / "two" / name, pixels(i))
    return tmp_path / "two"


def test_subfolders_are_classes(two):
    (two / "ant" / ".hidden.png").write_text("no image")
    (two / "notes.txt").write_text("left out")
    found = read_folder(two)
    assert found.files == ("ant/0.png", "ant/1.png", "ant/deep/2.PNG", "bee/0.bmp", "bee/1.png", "bee/2.png")
    assert found.classes == ("ant", "bee")
    assert found.label is not None
    np.testing.assert_array_equal(found.label, np.repeat([0, 1], 3).astype(np.int32), strict=True)
    np.testing.assert_array_equal(found.image, np.stack([pixels(i) for i in range(6)]), strict=True)
    assert found.skipped == ()
    assert found.notes == (
        f"{two}: 6 images of 4x6, RGB, in 2 classes.",
        "Left out for their suffix: 1 of .txt.",
    )


def test_a_flat_folder_has_no_labels(two):
    found = read_folder(two / "bee")
    assert found.label is None
    assert found.classes == ()
    assert found.image.shape == (3, 4, 6, 3)


def test_all_images_get_the_least_channels_that_hold_them(two):
    save(two / "bee" / "grey.png", pixels(9)[..., 0])
    found = read_folder(two)
    assert found.image.shape == (7, 4, 6, 3)
    assert "1 grey image was made RGB." in found.notes
    assert read_folder(two, channels=1).image.shape == (7, 4, 6, 1)
    assert "6 RGB images were made grey." in read_folder(two, channels=1).notes


def test_a_size_is_asked_for_and_said(two):
    save(two / "bee" / "large.png", pixels(9, (40, 80, 3)))
    with pytest.raises(
        DataError, match=r"several sizes, such as 4x6 \(ant/0.png\) and 40x80 \(bee/large.png\).*image-size"
    ):
        read_folder(two)
    found = read_folder(two, image_size=4)
    assert found.image.shape == (7, 4, 4, 3)
    assert f"7 images were {decode.RESIZED}." in found.notes
    np.testing.assert_array_equal(found.image[0], pixels(0)[:, 1:5])


def test_files_that_cannot_be_used_are_named_counted_and_limited(two):
    (two / "ant" / "bad.png").write_bytes((two / "ant" / "0.png").read_bytes()[:60])
    (two / "bee" / "empty.jpg").write_bytes(b"")
    found = read_folder(two)
    assert [one.file for one in found.skipped] == ["ant/bad.png", "bee/empty.jpg"]
    assert len(found.image) == 6
    assert "2 of the files could not be used and were skipped: ant/bad.png (" in found.notes[-1]
    with pytest.raises(DataError, match=r"2 of its 8 images .* at most 1 .*bad.png .*; bee/empty.jpg"):
        read_folder(two, max_skipped=1)
    for i in range(6):
        (two / "bee" / f"{i}.webp").write_bytes(b"x")
    with pytest.raises(DataError, match="8 of its 14 images cannot be used"):
        read_folder(two)  # more than half


@pytest.mark.parametrize("options", [{}, {"max_skipped": 5}])
def test_no_file_can_be_used(tmp_path, options):
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(b"x")
    with pytest.raises(DataError, match="none of its 2 images can be used"):
        read_folder(tmp_path, **options)


def test_half_of_the_files_may_be_unusable(two):
    save(two / "half" / "a.png", pixels(0))
    (two / "half" / "b.png").write_bytes(b"x")
    assert len(read_folder(two / "half").image) == 1
    (two / "half" / "c.png").write_bytes(b"x")
    with pytest.raises(DataError, match="2 of its 3 images cannot be used, and at most 1 are skipped"):
        read_folder(two / "half")


def test_given_classes_keep_their_order(two):
    found = read_folder(two, classes=("bee", "cow", "ant"))
    assert found.label is not None
    assert found.label.tolist() == [2, 2, 2, 0, 0, 0]
    with pytest.raises(DataError, match="class subfolder 'bee', which the training images lack"):
        read_folder(two, classes=("ant",))


def test_links_are_followed_once(two, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "ant").symlink_to(two / "ant")
    (tmp_path / "links" / "ant" / "loop").symlink_to(tmp_path / "links")
    assert read_folder(tmp_path / "links").classes == ("ant",)


def test_the_folder_vanishes(two, monkeypatch):
    def vanish(path, *, size=None):
        shutil.rmtree(two, ignore_errors=True)
        raise decode.UnreadableError("it vanished before it was read")

    monkeypatch.setattr(decode, "decode", vanish)
    with pytest.raises(DataError, match="vanished while it was read"):
        read_folder(two)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere", {}, "does not exist"),
        ("two/bee/1.png", {}, "is a file"),
        ("empty", {}, r"no images \(it is empty\)"),
        ("text", {}, r"no images \(it has 1 of .txt\)"),
        ("mixed", {}, "1 images itself, such as 'x.png', and 1 in subfolders"),
        ("two", {"image_size": 0}, "image_size=0 cannot be had"),
        ("two", {"channels": 2}, "channels=2 cannot be had"),
        ("two", {"max_skipped": -1}, "max_skipped=-1"),
        ("gs://bucket/x", {}, "not on this machine"),
    ],
)
def test_folders_that_cannot_be_read(two, tmp_path, monkeypatch, name, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a")
    save(tmp_path / "mixed" / "x.png", pixels(0))
    save(tmp_path / "mixed" / "a" / "y.png", pixels(0))
    with pytest.raises(DataError, match=message):
        read_folder(name, **options)
