"""Commits small batches, as a labelling job does: ``python -m benchmarks.query.writer WAREHOUSE START`` until killed.

Rows of numbers from ``START`` on; a line on standard output for each commit.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from typing import Final

from benchmarks.query.rows import attempts
from cortex_spark.session import spark_session
from cortex_spark.table import Warehouse
from cortex_spark.table.samples import commit_samples

_ROWS: Final = 4_000
_PAUSE: Final = 5.0  # seconds after each commit


def main() -> None:
    root, start = sys.argv[1], int(sys.argv[2])
    spark = spark_session("benchmark writer", small_queries=True)
    warehouse = Warehouse(spark, root)
    run = f"writer {start} {time.time():.0f}"
    for batch in count():
        first = start + batch * _ROWS
        frame = attempts(spark, first, first + _ROWS, 2 * start, batch, run, seed=5)
        warehouse.append_once(frame, "attempts", app_id=run, version=batch)
        added = commit_samples(warehouse, run, [batch])
        sys.stdout.write(f"{added}\n")
        sys.stdout.flush()
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
