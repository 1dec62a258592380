"""What each documented filter reads: ``python -m benchmarks.query.reads --table DIR [--spark]``.

Of the scan that counts a filter's rows and finds where its pages lie: row groups that DuckDB read, and how many there
are; rows that came out of the scan; bytes. With ``--spark`` also the files that Spark read for the same count.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import duckdb
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.table import Table

from benchmarks.query.__main__ import stored_values
from benchmarks.query.engines import files
from benchmarks.query.filters import FILTERS, Literals
from cortex_spark.console import out
from cortex_spark.query.duck import Parameters
from cortex_spark.query.mongo import compile_query
from cortex_spark.query.samples import Samples
from cortex_spark.query.spark import to_column
from cortex_spark.session import spark_session
from cortex_spark.table import Warehouse


class Watched(Samples):
    """Keeps DuckDB's profile of each statement."""

    profiles: list[dict[str, Any]]

    def _run(self, sql: str, parameters: Parameters, *, few: bool = False) -> duckdb.DuckDBPyConnection:
        explained = self._database.cursor().execute(f"EXPLAIN (ANALYZE, FORMAT json) {sql}", parameters.values)
        self.profiles.append(json.loads(explained.fetchall()[0][1]))
        return super()._run(sql, parameters, few=few)


def files_read(frame: DataFrame) -> int:
    """How many files Spark reads to count the rows of ``frame``."""
    counted = frame.agg(F.count("*"))
    counted.collect()

    def read(node: Any) -> int:
        name = node.getClass().getSimpleName()
        if name == "AdaptiveSparkPlanExec":
            return read(node.executedPlan())
        if name.endswith("QueryStageExec"):
            return read(node.plan())
        metric = node.metrics().get("numFiles")
        children = node.children()
        below = sum(read(children.apply(number)) for number in range(children.size()))
        return below + (int(metric.get().value()) if metric.isDefined() else 0)

    return read(counted._jdf.queryExecution().executedPlan())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, metavar="DIR", help="the folder that has the warehouse")
    parser.add_argument("--spark", action="store_true", help="ask Spark as well")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    root = str((options.table / "warehouse").absolute())
    stored = stored_values(root, options.seed)
    samples = Watched(root)
    warehouse = None
    if options.spark:
        os.environ.setdefault("SPARK_DRIVER_MEMORY", "6g")
        warehouse = Warehouse(spark_session("benchmark reads"), root)
    table = Table("filter", "match", "row groups read", "of", "rows scanned", "MB read")
    if warehouse is not None:
        table.add_column(f"files Spark reads, of {len(files(root))}")
    for which in FILTERS:
        query = which.make(Literals(stored, f"{options.seed} {which.name} reads"))
        samples.profiles = []
        found = samples.page(query, sort=dict(which.sort) or None)
        profile = samples.profiles[0]
        totals = profile["query"]
        cells = [
            *(
                f"{found.length:,}",
                f"{totals['total_row_groups_scanned']:,}",
                f"{totals['total_row_groups_to_scan']:,}",
            ),
            *(f"{totals['total_rows_scanned']:,}", f"{profile['io']['total_bytes_read'] / 1e6:,.1f}"),
        ]
        if warehouse is not None:
            frame = warehouse.read("samples").filter(to_column(compile_query(query).derived))
            cells.append(f"{files_read(frame):,}")
        table.add_row(which.name, *cells)
    out.print(table)


if __name__ == "__main__":
    main()
