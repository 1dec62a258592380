"""How fast a WAT is read: ``python benchmarks/extract.py --from FOLDER [--megabytes N] [--spark]``.

Makes one large WAT (gzip, a member for each record, as Common Crawl's are) out of the real records in FOLDER, by
repetition and variation: hosts and relative paths get a number, so that no page and few pictures are the same. Then
reads it, in this process on one core: with FastWARC alone, with our framing alone, and to references. With ``--spark``
also as the whole ``extract`` job, into an empty warehouse and again into a full one.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastwarc.warc import ArchiveIterator
from rich.table import Table

from cortex_spark.console import err, out
from cortex_spark.sources.warc import Damage, Input, Record, records
from cortex_spark.sources.wat import Page, WatReader


def real_records(folder: Path) -> list[bytes]:
    """The JSON of all WAT records below ``folder``."""
    found: list[bytes] = []
    for path in sorted(folder.glob("*.wat*")):
        with path.open("rb") as file:
            every = [record for record in records(Input(file.read)) if isinstance(record, Record)]
        found.extend(record.payload for record in every if record.content_type == "application/json")
    return found


def varied(payload: bytes, chance: random.Random) -> bytes:
    page = b"%06x" % chance.getrandbits(24)
    payload = re.sub(rb"(https?://)", lambda match: match[1] + page + b".", payload)
    return re.sub(rb'("url":"(?:\.\./|/(?!/)))', lambda match: match[1] + b"%d/" % chance.getrandbits(10), payload)


def make(target: Path, folder: Path, megabytes: float) -> int:
    """Writes ``megabytes`` of WAT, and returns how many bytes they are inflated."""
    chance = random.Random(7)
    originals = real_records(folder)
    if not originals:
        raise SystemExit(f"{folder}: no WAT records in it")
    inflated = 0
    with target.open("wb") as file:
        while file.tell() < megabytes * 1e6:
            for original in originals:
                payload = varied(original, chance)
                header = (
                    "WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: http://example.com/\r\n"
                    "WARC-Date: 2024-05-31T01:17:49Z\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(payload)}\r\n\r\n"
                )
                record = header.encode() + payload + b"\r\n\r\n"
                inflated += len(record)
                file.write(gzip.compress(record, 6))
    return inflated


def cpu_seconds(work: Callable[[], object]) -> float:
    """The least of three runs: what else the machine does only ever adds."""
    times = []
    for _ in range(3):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def with_fastwarc(path: Path) -> None:
    with path.open("rb") as file:
        for record in ArchiveIterator(file, parse_http=False):
            record.reader.read()


def with_framing(path: Path) -> None:
    with path.open("rb") as file:
        for _ in records(Input(file.read)):
            pass


def pages(path: Path) -> Iterator[Page | Damage]:
    with path.open("rb") as file:
        yield from WatReader(Input(file.read))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", type=Path, required=True, help="folder with real WAT files")
    parser.add_argument("--megabytes", type=float, default=55.0, help="of the file that is made, compressed")
    parser.add_argument("--spark", action="store_true", help="the whole job as well")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="cortex-extract-"))
    try:
        wat = scratch / "large.warc.wat.gz"
        with err.status("making the file"):
            inflated = make(wat, options.folder, options.megabytes)
        megabytes = wat.stat().st_size / 1e6
        references = [one for page in pages(wat) if isinstance(page, Page) for one in page.references]
        out.print(
            f"{megabytes:.1f} MB, inflated {inflated / 1e6:.1f} MB, {len(references):,} references to"
            f" {len({one.address.id for one in references}):,} pictures"
        )
        del references
        table = Table("one core", "CPU seconds", "MB/s", "inflated MB/s")
        for name, work in (
            ("FastWARC, records only", lambda: with_fastwarc(wat)),
            ("ours, records only", lambda: with_framing(wat)),
            ("ours, to references", lambda: sum(1 for _ in pages(wat))),
        ):
            seconds = cpu_seconds(work)
            table.add_row(name, f"{seconds:.2f}", f"{megabytes / seconds:.1f}", f"{inflated / 1e6 / seconds:.1f}")
        out.print(table)
        if options.spark:
            whole_job(scratch, wat)
    finally:
        shutil.rmtree(scratch)


def whole_job(scratch: Path, wat: Path) -> None:
    from cortex_spark.session import spark_session
    from cortex_spark.sources.extract import extract
    from cortex_spark.table import Warehouse

    spark = spark_session("benchmark extract")
    copies = []
    for number in range(spark.sparkContext.defaultParallelism):
        copies.append(str(scratch / f"{number}.warc.wat.gz"))
        shutil.copy(wat, copies[-1])
    warehouse = Warehouse(spark, str(scratch / "warehouse"))
    for _ in range(2):
        out.print(extract(warehouse, copies))
    spark.stop()


if __name__ == "__main__":
    main()
