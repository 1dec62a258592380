"""How fast a WAT is read: ``python -m benchmarks.extract --from FOLDER [--megabytes N] [--spark]``.

Makes one large WAT (gzip, a member for each record, as Common Crawl's are) out of the real records in FOLDER, by
repetition and variation: hosts and relative paths get a number, so that no page and few pictures are the same. Then
reads it on one core: with FastWARC alone, with our framing alone, to references; and, in an environment of its own,
with cc2dataset's function for the same, which finds one kind of reference (``img src``) and neither judges them nor
gives them their identity. In turns, the least of all runs. With ``--spark`` also as the whole ``extract`` job, into an
empty warehouse and again into a full one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fastwarc.warc import ArchiveIterator
from rich.table import Table

from benchmarks.common import environments
from cortex_spark.console import err, out
from cortex_spark.sources.warc import Damage, Input, Record, records
from cortex_spark.sources.wat import Page, WatReader

_ROOT: Final = Path(__file__).parents[1]
_OURS: Final = "ours, to references"


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
    """Of one run of ``work``."""
    started = time.process_time()
    work()
    return time.process_time() - started


def cc2dataset(python: Path, path: Path) -> Callable[[], float]:
    """CPU-seconds of one run of cc2dataset's function from bytes to references."""

    def run() -> float:
        command = [str(python), "-m", "benchmarks.contenders.cc2dataset_wat", str(path), "1"]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(_ROOT)}, capture_output=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"cc2dataset failed: {done.stderr.decode()[-2000:]}")
        said = json.loads(done.stdout)
        if said["failures"] or not said["references"]:
            raise SystemExit(f"cc2dataset did not read the file: {said}")
        return float(said["seconds"][0])

    return run


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
    parser.add_argument("--runs", type=int, default=5, help="of each, in turns; the least counts")
    parser.add_argument("--json", type=Path, metavar="FILE")
    environments.add_options(parser)
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
        contenders: dict[str, Callable[[], float]] = {
            "FastWARC, records only": lambda: cpu_seconds(lambda: with_fastwarc(wat)),
            "ours, records only": lambda: cpu_seconds(lambda: with_framing(wat)),
            _OURS: lambda: cpu_seconds(lambda: sum(1 for _ in pages(wat))),
            "cc2dataset, to references": cc2dataset(
                environments.python_of("cc2dataset", options.peers_dir).absolute(), wat
            ),
        }
        runs: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(options.runs):
            for name, work in contenders.items():
                runs[name].append(work())
        seconds = {name: min(times) for name, times in runs.items()}
        table = Table("one core", "CPU seconds", "MB/s", "inflated MB/s", "ours is faster by")
        for name, least in seconds.items():
            table.add_row(
                name,
                f"{least:.2f}",
                f"{megabytes / least:.1f}",
                f"{inflated / 1e6 / least:.1f}",
                f"{least / seconds[_OURS]:.2f}" if "references" in name else "",
            )
        if options.json is not None:
            options.json.write_text(json.dumps({"megabytes": megabytes, "inflated": inflated / 1e6, "seconds": runs}))
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
