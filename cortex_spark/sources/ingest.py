"""Lists of URLs, and folders of pictures that are not online, into ``image_urls``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Literal, cast, get_args

import pyarrow.parquet as pq
from PIL import Image
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cortex_spark.config import Settings
from cortex_spark.console import err
from cortex_spark.errors import CortexError
from cortex_spark.measure import FORMATS
from cortex_spark.pillow import is_no_picture
from cortex_spark.sources import store
from cortex_spark.sources.datasource import UrlListDataSource, files_of
from cortex_spark.sources.files import expand, total_size
from cortex_spark.sources.landing import land
from cortex_spark.sources.lists import LIST_SUFFIXES
from cortex_spark.sources.progress import files_progress
from cortex_spark.sources.report import IngestReport, common
from cortex_spark.sources.staged import ARROW, StagedFile
from cortex_spark.sources.urls import Address, image_id
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import recall, refused_hashes
from cortex_spark.table.removal import remove

#: Where a list of URLs or a folder of pictures comes from.
Source = Literal["public", "private", "crowdsourced", "synthetic"]

#: Files with these headers are pictures (Pillow's readers: that of JPEG reads MPO).
_PICTURE_FORMATS: Final = tuple(name for name in FORMATS if name != "MPO")

#: Files that wait for a worker: enough to keep all busy, few enough for any folder.
_CHUNK: Final = 256
_WORKERS: Final = min(16, 2 * (os.cpu_count() or 1))


def ingest_urls(warehouse: Warehouse, files: Sequence[str], source: Source = "public") -> IngestReport:
    """Puts the URLs of lists (see ``lists``) into ``image_urls``, as far as they are not there.

    What is no http(s) address is counted by reason; the report has the first of them, with their lines.

    Raises:
        CortexError: ``files`` name nothing.
    """
    started = time.monotonic()
    paths = expand(files, LIST_SUFFIXES)
    if not paths:
        raise CortexError("no list of URLs was named")
    megabytes = total_size(paths)

    def stage(folder: str) -> None:
        with files_progress(warehouse.spark, "ingest", len(paths), megabytes):
            files_of(warehouse.spark, UrlListDataSource, paths, source=source).write.parquet(folder)

    landed = land(warehouse, paths, stage)
    return IngestReport(**common(landed, len(paths), time.monotonic() - started), records=landed.tally["records"])


def ingest_files(warehouse: Warehouse, folder: str, source: Source = "private") -> IngestReport:
    """Copies the pictures below ``folder`` into the warehouse's own store, and puts them into ``image_urls``.

    They are told by their header, whatever they are called; what is no picture is counted by reason, and so is what was
    taken down, or is refused. Two files with the same bytes are one picture.

    Raises:
        CortexError: there is no such folder, the warehouse is not in one, ``source`` is public, or the list of refused
            hashes is unusable.
    """
    started = time.monotonic()
    if source == "public":
        raise CortexError("--source public: public pictures stay where they are; give their URLs with --urls")
    top = Path(folder).expanduser()
    if not top.is_dir():
        raise CortexError(f"--files {folder}: no such folder")
    store.local_path(warehouse.root)
    staged = StagedFile(0, source)
    refused = refused_hashes(warehouse, Settings())

    def stage(staging: str) -> None:
        target = store.local_path(staging)
        target.mkdir(parents=True)
        columns = (SpinnerColumn(), TextColumn("ingest: {task.completed:,.0f} files"), TimeElapsedColumn())
        with (
            Progress(*columns, console=err, transient=True) as progress,
            pq.ParquetWriter(target / "part.parquet", ARROW) as writer,
            ThreadPoolExecutor(_WORKERS) as workers,
        ):
            task = progress.add_task("", total=None)
            now = datetime.now(UTC)
            paths = _files_below(top)
            while chunk := list(islice(paths, _CHUNK)):
                for path, kept in zip(chunk, workers.map(partial(_keep, warehouse.root, refused), chunk), strict=True):
                    staged.tally["records"] += 1
                    if isinstance(kept, Address):
                        staged.reference("file", kept, seen=now)
                    else:
                        reason, detail = kept
                        staged.tally[f"dropped:{reason}"] += 1
                        staged.finding(None, reason, f"{path.relative_to(top)}: {detail}")
                for batch in staged.batches():
                    writer.write_batch(batch)
                progress.advance(task, len(chunk))
            for batch in staged.batches(end=True):
                writer.write_batch(batch)

    landed = land(warehouse, [str(top)], stage)
    if recall(warehouse).of("hash") - refused:  # taken down while pictures were copied
        remove(warehouse)
    files = landed.tally["records"]
    return IngestReport(**common(landed, files, time.monotonic() - started), records=files)


def checked_source(name: str) -> Source:
    """``name`` if it is a source that can be ingested; raises CortexError otherwise."""
    if name not in get_args(Source):
        raise CortexError(f"--source {name}: it is one of {', '.join(get_args(Source))}")
    return cast(Source, name)


def _files_below(folder: Path) -> Iterator[Path]:
    """All files at any depth, in a fixed order. Links to folders are not followed: they could lead round in circles."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(parent, name)


def _keep(root: str, refused: frozenset[str], path: Path) -> Address | tuple[str, str]:
    """Put the picture at ``path`` into the store; or the reason why not, and what was seen."""
    try:
        if not path.is_file():  # a broken link, a pipe, a socket
            return "not_a_file", "neither a file nor a link to one"
        if path.stat().st_size == 0:
            return "empty", "no bytes"
        try:
            with Image.open(path, formats=_PICTURE_FORMATS):
                pass
        except Exception as error:  # Pillow's plugins raise whatever a damaged header makes them
            if is_no_picture(error):
                return "not_an_image", f"no header of {', '.join(_PICTURE_FORMATS)}"
            if isinstance(error, OSError):
                raise
            return "bad_header", str(error)
        digest = store.put(root, path, refused)
    except OSError as error:
        return "unreadable", str(error)
    if digest in refused:
        return "forgotten", "taken down, or on the list of refused hashes"
    url = store.store_url(digest)
    return Address(image_id(url), url, None)
