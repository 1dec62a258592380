"""``cortex demo``: what it may delete, and the whole way."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from pyspark.sql import SparkSession

from cortex_spark.demo.run import fresh_folder, run
from cortex_spark.demo.site import build
from cortex_spark.errors import CortexError
from cortex_spark.table import Warehouse


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


@pytest.mark.timeout(900)  # a minute alone, but machines are shared
def test_the_whole_way(spark: SparkSession, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    model = shared / "models" / "yolo11n_int8_openvino_model"
    sheet = run(str(folder), str(model))

    with Image.open(sheet) as opened:
        assert (opened.format, opened.width > 1500) == ("PNG", True)

    warehouse = Warehouse(spark, str(folder))
    urls = {row["_id"]: row["url"].partition("#")[0] for row in warehouse.read("image_urls").collect()}
    web = build(urlsplit(next(iter(urls.values()))).port or 0)
    assert set(urls.values()) == set(web.pictures) | set(web.dirt)
    # A redirect to another host is one attempt, and asking there is the next.
    attempts = warehouse.read("attempts").where("outcome != 'moved'").collect()
    ended = {urls[row["_id"]]: row["outcome"] for row in attempts}
    assert ended == dict.fromkeys(web.pictures, "ok") | dict.fromkeys(web.refused, "opt_out") | web.dirt

    samples = {urls[row["_id"]]: row for row in warehouse.read("samples").collect()}
    assert {url: (row["hash"], row["width"], row["height"]) for url, row in samples.items()} == {
        url: (file.sha256, file.width, file.height) for url, file in web.pictures.items() if url not in web.refused
    }
    found = {url: {box["classname"] for box in row["object_analysis"][0]} for url, row in samples.items()}
    for name, expected in {
        "chelsea-00": {"cat"},
        "faust-00": {"cat", "cup"},
        "coffee-00": {"cup"},
        "motorcycle-00": {"motorcycle"},
        "astronaut-00": {"person"},
        "cyclist-00": {"person", "bicycle"},
    }.items():
        assert expected <= next(classes for url, classes in found.items() if name in url)

    said = capsys.readouterr().out
    for command in ("extract", "label", "query", "export"):
        assert f"cortex {command} " in said
    # One picture is asked for once more: a redirect of another host leads to it. Where the page refuses, none is.
    never = len(web.refused)
    (log,) = [line for line in said.splitlines() if "own log" in line]
    assert log.endswith(f"pictures it was asked for {never} never, {len(web.pictures) - never - 1} once, 1 twice.")
