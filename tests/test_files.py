"""Why nothing can be written at a place, in words."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from saegan_jax.files import why_not_writable


def test_a_place_that_can_be_written(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path / "new" / "run") == ""


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert why_not_writable(tmp_path / "file" / "run").startswith(f"{tmp_path / 'file'} is a file")


@pytest.mark.parametrize(
    ("flag", "why"), [(0, "you may not write in {}"), (os.ST_RDONLY, "{} is on a read-only file system")]
)
def test_what_forbids_it(flag: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=flag))
    assert why_not_writable(tmp_path / "run") == why.format(tmp_path)
