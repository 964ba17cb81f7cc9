"""A folder as a data set: splits that are always the same, given or held out, in memory or on disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saegan_jax.data import DataError, load
from saegan_jax.data.sources import OnDisk


def fill(folder: Path, n: int, *, shape: tuple[int, ...] = (4, 6), first: int = 0) -> None:
    folder.mkdir(parents=True)
    for i in range(first, first + n):
        image = np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{i:03d}.png")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    fill(tmp_path / "two" / "ant", 40)
    fill(tmp_path / "two" / "bee", 20, first=40)
    return tmp_path / "two"


def split_files(dataset) -> dict[str, list[str]]:
    return dataset.origin.details["splits"]


def test_splits_are_held_out_by_class_and_written_down(two):
    found = load(f"folder:{two}")
    assert found.name == "folder:two"
    assert found.classes == ("ant", "bee")
    assert found.labelled
    assert found.image_shape == (4, 6, 1)
    splits = split_files(found)
    assert {name: len(files) for name, files in splits.items()} == {"train": 49, "test": 6, "validation": 5}
    assert sorted(file for files in splits.values() for file in files) == sorted(
        f"{c}/{p.name}" for c in ("ant", "bee") for p in (two / c).iterdir()
    )
    assert np.bincount(found.test.label).tolist() == [4, 2]
    for name in splits:
        split = getattr(found, name)
        for file, image, label in zip(splits[name], split.image, split.label, strict=True):
            np.testing.assert_array_equal(image[..., 0], np.asarray(Image.open(two / file)))
            assert found.classes[label] == file[:3]
    again = load(f"folder:{two}")
    assert split_files(again) == splits
    assert again.origin.record == found.origin.record
    (two / "bee" / "040.png").unlink()
    assert load(f"folder:{two}").origin.record != found.origin.record


def test_other_pixels_in_a_file_of_equal_size_are_other_data(tmp_path):
    for i in range(4):
        Image.fromarray(np.full((4, 6), i, np.uint8)).save(tmp_path / f"{i}.bmp")
    record, size = load(f"folder:{tmp_path}").origin.record, (tmp_path / "2.bmp").stat().st_size
    Image.fromarray(np.full((4, 6), 9, np.uint8)).save(tmp_path / "2.bmp")
    assert (tmp_path / "2.bmp").stat().st_size == size
    assert load(f"folder:{tmp_path}").origin.record != record
    assert load(f"folder:{tmp_path}", in_memory=0).origin.record == load(f"folder:{tmp_path}").origin.record


def test_images_beside_the_splits_are_counted(tmp_path):
    fill(tmp_path / "train" / "ant", 3)
    fill(tmp_path / "test" / "ant", 1)
    assert "left out" not in " ".join(load(f"folder:{tmp_path}").origin.notes)
    fill(tmp_path / "extra" / "ant", 2)
    (tmp_path / "extra" / "list.txt").write_text("a")
    Image.new("L", (6, 4)).save(tmp_path / "0.png")
    notes = load(f"folder:{tmp_path}").origin.notes
    assert notes[-1].endswith("images beside the subfolders of the splits are left out: 2 in extra, 1 in itself.")


def test_a_folder_without_classes(two):
    found = load(f"folder:{two / 'ant'}")
    assert not found.labelled
    assert found.num_classes == 1
    assert not found.train.label.any()


@pytest.mark.parametrize("validation", ["validation", "val", "valid"])
def test_splits_that_are_given(tmp_path, validation):
    for i, split in enumerate(("train", validation, "test")):
        fill(tmp_path / split / "ant", 4 - i, first=10 * i)
    fill(tmp_path / "train" / "bee", 2, first=90)
    found = load(f"folder:{tmp_path}")
    assert [len(s.label) for s in (found.train, found.validation, found.test)] == [6, 3, 2]
    assert split_files(found)["test"] == ["ant/020.png", "ant/021.png"]


def test_one_given_split_leaves_the_other_to_be_held_out(tmp_path):
    fill(tmp_path / "train" / "ant", 20)
    fill(tmp_path / "test" / "ant", 3, first=30)
    found = load(f"folder:{tmp_path}")
    assert [len(s.label) for s in (found.train, found.validation, found.test)] == [18, 2, 3]


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path / "train", 5)
    fill(tmp_path / "ship", 5, first=5)
    assert load(f"folder:{tmp_path}").classes == ("ship", "train")


def test_images_stay_on_disk_where_they_are_too_many(two):
    whole, streamed = load(f"folder:{two}", image_size=5), load(f"folder:{two}", image_size=5, in_memory=0)
    source = streamed.source
    assert isinstance(source, OnDisk)
    assert source.image_shape == (5, 5, 1)
    order = np.random.default_rng(0).permutation(len(source))
    for found, expected in zip(source.read(order), whole.train, strict=True):
        np.testing.assert_array_equal(found, expected[order], strict=True)
    for name in ("train", "validation", "test"):  # all of them fit into the sample
        np.testing.assert_array_equal(getattr(streamed, name).image, getattr(whole, name).image)
    (two / split_files(streamed)["train"][3]).unlink()
    with pytest.raises(DataError, match=r"vanished before it was read\): the training has begun with these files"):
        source.read(np.arange(5))


def test_folders_that_are_no_data_set(tmp_path):
    fill(tmp_path / "one" / "ant", 1)
    with pytest.raises(DataError, match="has 1 image to train on"):
        load(f"folder:{tmp_path / 'one'}")
    fill(tmp_path / "no" / "test", 1)
    with pytest.raises(DataError, match="none named train"):
        load(f"folder:{tmp_path / 'no'}")
    fill(tmp_path / "both" / "train", 3)
    fill(tmp_path / "both" / "val", 3)
    fill(tmp_path / "both" / "valid", 3)
    with pytest.raises(DataError, match="valid and val: keep one for validation"):
        load(f"folder:{tmp_path / 'both'}")
    fill(tmp_path / "sizes" / "train" / "a", 3)
    fill(tmp_path / "sizes" / "test" / "a", 3, shape=(5, 5))
    with pytest.raises(DataError, match=r"images of 5x5 .* of 4x6.*add --image-size"):
        load(f"folder:{tmp_path / 'sizes'}")
    fill(tmp_path / "labels" / "train" / "a", 3)
    fill(tmp_path / "labels" / "test", 3)
    with pytest.raises(DataError, match=r"has none and .* has class subfolders"):
        load(f"folder:{tmp_path / 'labels'}")


def test_options_of_folders_are_for_folders():
    with pytest.raises(DataError, match="image_size=8 is for --dataset folder:PATH alone, and not for 'digits'"):
        load("digits", image_size=8)
