"""What is uploaded: the wheel and the sdist hold what they should and nothing else, and every file names one version."""

import re
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import saegan_jax

ROOT = Path(__file__).parents[1]
INFO = f"saegan_jax-{saegan_jax.__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    return Path(path)


def package_files() -> set[str]:
    """Every file of the package but what Python leaves."""
    paths = (path for path in (ROOT / "saegan_jax").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_is_the_package_and_its_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = message_from_string(archive.read(f"{INFO}/METADATA").decode())
        assert "saegan = saegan_jax.__main__:main" in archive.read(f"{INFO}/entry_points.txt").decode()
    own = {name for name in names if name.startswith("saegan_jax/")}
    assert own == package_files()
    assert own >= {
        "saegan_jax/py.typed",
        "saegan_jax/report/templates/run.html",
        "saegan_jax/training/shipped/digits-topk/sae_weights.safetensors",
        "saegan_jax/training/shipped/shapes-topk/README.md",
    }
    info = {f"{INFO}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert names - own == info
    assert metadata["Version"] == saegan_jax.__version__
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_wheel_is_the_same_whenever_it_is_built(wheel, tmp_path):
    (again,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    assert Path(again).read_bytes() == wheel.read_bytes()


def test_the_sdist_has_the_package_and_the_files_that_describe_it(tmp_path):
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    beside = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "constraints.txt", "pyproject.toml", "PKG-INFO"}
    assert names - package_files() == {*beside, ".gitignore"}
    assert package_files() <= names


def test_every_file_names_one_version():
    version = re.escape(saegan_jax.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    first = re.search(r"^## .*$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert re.fullmatch(rf"## {version}( \(.+\))?", first[0])
