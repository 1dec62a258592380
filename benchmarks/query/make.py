"""Makes a large table: ``python -m benchmarks.query.make --rows 20000000 --out DIR``.

Made-up samples (``rows.py``) go the way of real ones: a batch is appended to ``attempts``, and committed to ``samples``
by the product's own committer, in the order of hosts, as plans are. Run again it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Final

from pyspark.sql import SparkSession
from rich.table import Table

from benchmarks.query.rows import attempts
from cortex_spark.console import err, out
from cortex_spark.session import spark_session
from cortex_spark.table import Warehouse
from cortex_spark.table.samples import commit_samples

RUN: Final = "benchmark"


def make(spark: SparkSession, folder: Path, rows: int, per_commit: int, seed: int) -> dict[str, float]:
    """Makes what is missing of the table; seconds by what they were spent on."""
    warehouse = Warehouse(spark, str(folder / "warehouse"))
    spent = {"made, and appended to attempts": 0.0, "committed to samples": 0.0}
    done = warehouse.read("samples").count()
    if done % per_commit and done != rows:
        raise SystemExit(f"{folder}: {done:,} rows are no whole number of commits of {per_commit:,}")
    for start in range(done, rows, per_commit):
        end = min(start + per_commit, rows)
        batch = start // per_commit
        begun = time.perf_counter()
        frame = attempts(spark, start, end, rows, batch, RUN, seed)
        warehouse.append_once(frame, "attempts", app_id=RUN, version=batch)
        appended = time.perf_counter()
        added = commit_samples(warehouse, RUN, [batch])
        committed = time.perf_counter()
        if added != end - start:
            raise SystemExit(f"batch {batch}: {end - start:,} rows made, {added:,} came into samples")
        spent["made, and appended to attempts"] += appended - begun
        spent["committed to samples"] += committed - appended
        err.print(f"{end:,} of {rows:,} rows: {appended - begun:.1f} s to make, {committed - appended:.1f} s to commit")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="its folder warehouse gets the tables")
    parser.add_argument("--per-commit", type=int, default=400_000, help="rows in a commit (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--keep-attempts", action="store_true", help="by default the rows of attempts go at the end")
    options = parser.parse_args()
    os.environ.setdefault("SPARK_DRIVER_MEMORY", "8g")
    spark = spark_session("benchmark query")
    spent = make(spark, options.out, options.rows, options.per_commit, options.seed)
    spark.stop()
    warehouse = options.out / "warehouse"
    if not options.keep_attempts:
        shutil.rmtree(warehouse / "attempts")
    files = list((warehouse / "samples").glob("*.parquet"))
    table = Table("", "", title=str(warehouse))
    for what, seconds in spent.items():
        table.add_row(what, f"{seconds:,.0f} s")
    table.add_row("files of samples", f"{len(files):,}")
    table.add_row("bytes of samples", f"{sum(file.stat().st_size for file in files):,}")
    out.print(table)


if __name__ == "__main__":
    main()
