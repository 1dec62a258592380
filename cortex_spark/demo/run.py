"""``cortex demo``: the real commands, one after the other, on a small web that this process serves."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pyarrow.parquet as pq
from rich.rule import Rule
from rich.table import Table

from cortex_spark.console import out
from cortex_spark.demo.server import Server
from cortex_spark.demo.sheet import contact_sheet
from cortex_spark.demo.site import Web, build
from cortex_spark.demo.warc import write_warc
from cortex_spark.demo.wat import derive_wat
from cortex_spark.errors import CortexError
from cortex_spark.session import QUICK_JVM

_MARK: Final = ".cortex-demo"  # a folder that holds it may be deleted by the next demo
_CRAWL: Final = "CC-DEMO-2026-45"
_CATS: Final = '{"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": "cat"}}}, "width": {"$gt": 100}}'
_WIDE: Final = '{"width": {"$gt": 100}}'
_SHARD_ROWS: Final = 64
_TIMES: Final = {0: "never", 1: "once", 2: "twice"}
_CLASSES: Final = 12  # rows of the table of classes
#: The web is on loopback, and the fetcher refuses addresses that are not public unless it is told otherwise.
_ALLOW: Final = {"CORTEX_ALLOW_PRIVATE_HOSTS": "*.localhost", "CORTEX_HOST_DELAY": "0"}
#: In a job this short the JVM would spend most of its time compiling.
_QUICK_JVM: Final = {"SPARK_SUBMIT_OPTS": QUICK_JVM}

Row = dict[str, Any]


def fresh_folder(warehouse: str) -> Path:
    """Makes an empty folder for the demo, in place of the demo's last one.

    Raises CortexError when there is something that no demo has made.
    """
    folder = Path(warehouse)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise CortexError(f"{warehouse} is not a folder; name another one with --warehouse")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise CortexError(
                f"{warehouse} is not empty and no demo has made it (it has no {_MARK}), so it is not deleted; "
                "name another folder with --warehouse"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text(
        "Made by cortex demo, which deletes this folder when it runs again.\n", encoding="utf-8"
    )
    return folder


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass
class _Demo:
    """Runs commands and remembers how long each took."""

    seconds: dict[str, float] = field(default_factory=dict)

    def command(self, title: str, *arguments: str, fetches: bool = False) -> None:
        """Shows and runs ``cortex ARGUMENTS``: the command's own function, in one Spark session for all of them."""
        from cortex_spark.cli import main  # which imports this module for its own list of commands

        settings = "".join(f"{name}={shlex.quote(value)} " for name, value in _ALLOW.items()) if fetches else ""
        out.print()
        out.print(Rule(f"[bold]{title}", align="left", style="dim"))
        out.print(f"$ {settings}cortex {shlex.join(arguments)}", style="bold green", markup=False, soft_wrap=True)
        out.file.flush()
        started = time.monotonic()
        try:
            main(arguments)
        except SystemExit as ended:
            if ended.code:
                raise CortexError(f"cortex {arguments[0]} failed, so the demo ends here") from None
        self.seconds[arguments[0]] = time.monotonic() - started


def _boxes(row: Row) -> list[Row]:
    """The boxes that clients read."""
    return list((row["object_analysis"] or [[]])[0])


def _shards(folder: Path) -> list[Row]:
    """The rows of all Parquet shards of an export."""
    return [row for shard in sorted(folder.rglob("*.parquet")) for row in pq.read_table(shard).to_pylist()]


def _classes(rows: Iterable[Row]) -> Table:
    """Pictures and boxes per class."""
    boxes: Counter[str] = Counter()
    pictures: Counter[str] = Counter()
    for row in rows:
        names = [box["classname"] for box in _boxes(row)]
        boxes.update(names)
        pictures.update(set(names))
    table = Table("class", title="What was found", title_justify="left")
    table.add_column("pictures", justify="right")
    table.add_column("boxes", justify="right")
    for name, count in pictures.most_common(_CLASSES):
        table.add_row(name, f"{count:,}", f"{boxes[name]:,}")
    if len(pictures) > _CLASSES:
        table.caption = f"and {len(pictures) - _CLASSES} classes more"
    return table


def _serve(server: Server) -> Web:
    with out.status("making a small web of photographs"):
        web = build(server.port)
    server.publish(web.answers)
    hosts = len({host for host, _ in web.answers})
    out.print(
        f"A small web on this machine, port {server.port}: {hosts} hosts, {len(web.pages)} pages, "
        f"{len(web.pictures)} pictures and {len(web.dirt)} addresses that lead to none, as on every web.",
        soft_wrap=True,
    )
    return web


def _log(server: Server, web: Web) -> str:
    """How often the web was asked for each of its pictures, by its own log."""
    asked = Counter((line.host, line.path) for line in server.requests())
    times = Counter(
        asked[url.hostname or "", unquote(url._replace(scheme="", netloc="").geturl())]
        for url in map(urlsplit, web.pictures)
    )
    every = ", ".join(f"{pictures} {_TIMES.get(count, f'{count} times')}" for count, pictures in sorted(times.items()))
    return f"The web's own log: {asked.total()} requests; of its pictures it was asked for {every}."


def _write_crawl(web: Web, folder: Path) -> Path:
    """The WARC and WAT file of the web's pages; gives the path of the latter."""
    folder.mkdir()
    warc, wat = folder / f"{_CRAWL}-00000.warc.gz", folder / f"{_CRAWL}-00000.warc.wat.gz"
    write_warc(web.pages, warc, _CRAWL)
    records = derive_wat(warc, wat)
    out.print(f"Its pages as Common Crawl would have them: {wat}, {records} records.", soft_wrap=True)
    return wat


def run(warehouse: str, model: str) -> Path:
    """Runs the demo into ``warehouse``; gives the path of the contact sheet.

    Raises CortexError when the folder is not the demo's, a package with photographs is missing, or a command fails.
    """
    started = time.monotonic()
    folder = fresh_folder(warehouse)
    demo, into = _Demo(), ("--warehouse", str(folder))
    shards = folder / "export"
    with Server() as server, _environment(_ALLOW | _QUICK_JVM):
        web = _serve(server)
        wat = _write_crawl(web, folder / "crawl")
        demo.command("The pictures that its pages refer to", "extract", "--wat", str(wat), *into)
        demo.command("Download, measure and label them", "label", "--model", model, *into, fetches=True)
        out.print(_log(server, web), soft_wrap=True)
        demo.command("Cats, wider than 100 pixels", "query", "--q", _CATS, *into)
        demo.command(
            "Shards to train on, with the pictures in them",
            *("export", "--q", _WIDE, "--format", "parquet", "--bytes"),
            *("--shard-rows", str(_SHARD_ROWS), "--out", str(shards), *into),
            fetches=True,
        )
    rows = _shards(shards)
    sheet = folder / "contact-sheet.png"
    images = {row["_id"]: row["image"] for row in rows}
    labelled_by = rows[0]["annotators"][0]["name"] if rows else "nobody"
    subtitle = f"The best of {len(rows)} pictures of the demo's web, labelled by {labelled_by}"
    drawn = contact_sheet(rows, images, sheet, subtitle=subtitle)
    out.print()
    out.print(_classes(rows))
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in demo.seconds.items())
    out.print(f"Done in {time.monotonic() - started:.0f} s ({spent}; the first one starts Spark).", soft_wrap=True)
    if not drawn:
        raise CortexError("the model found nothing in any picture, so there is no contact sheet")
    out.print(f"Look at it: [bold]{sheet}[/] ({drawn} pictures). The tables are in {folder}.", soft_wrap=True)
    return sheet
