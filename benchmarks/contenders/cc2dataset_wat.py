"""cc2dataset's own function from a WAT's bytes to its image references, without the Spark around it.

``python -m benchmarks.contenders.cc2dataset_wat FILE RUNS`` prints JSON: CPU-seconds of each run, references found.
"""

from __future__ import annotations

import json
import sys
import time
from io import BytesIO
from pathlib import Path

from cc2dataset.main import extract_documents_from_wat
from loguru import logger


def main() -> None:
    content, runs = Path(sys.argv[1]).read_bytes(), int(sys.argv[2])
    failures: list[str] = []
    logger.remove()
    logger.add(failures.append, level="INFO")
    seconds, found = [], 0
    for _ in range(runs):
        started = time.process_time()
        # Its default, "image", leaves out what has no alternative text: that is less than we find.
        found = len(extract_documents_from_wat(BytesIO(content), "image_only"))
        seconds.append(time.process_time() - started)
    sys.stdout.write(json.dumps({"seconds": seconds, "references": found, "failures": len(failures)}))


if __name__ == "__main__":
    main()
