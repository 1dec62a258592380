"""One page in a process of its own: ``python -m benchmarks.query.once WAREHOUSE QUERY [SORT]``.

What a first question costs: prints the seconds of the imports and of the page, as JSON.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    begun = time.perf_counter()
    from cortex_spark.query.page import page

    imported = time.perf_counter()
    root, query, sort = sys.argv[1:]
    found = page(root, query, sort=json.loads(sort) or None)
    answered = time.perf_counter()
    said = {"imports": imported - begun, "page": answered - imported, "length": found.length}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
