"""``cortex demo``: what it may delete, and the whole way."""

from __future__ import annotations

from pathlib import Path

import pytest

from cortex_spark.demo.run import fresh_folder
from cortex_spark.errors import CortexError


def test_a_new_folder_and_then_the_same_one(tmp_path: Path) -> None:
    folder = fresh_folder(str(tmp_path / "a" / "demo"))
    (folder / "samples").mkdir()
    (folder / "samples" / "part").write_text("x")
    assert [path.name for path in fresh_folder(str(folder)).iterdir()] == [".cortex-demo"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert fresh_folder(str(tmp_path)) == tmp_path


def test_what_no_demo_made_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CortexError, match=r"no demo has made it.*--warehouse"):
        fresh_folder(str(tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_only_folders(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "demo"
    if kind == "file":
        path.write_text("x")
    else:
        fresh_folder(str(tmp_path / "real"))
        path.symlink_to(tmp_path / "real")
    with pytest.raises(CortexError, match="not a folder"):
        fresh_folder(str(path))
