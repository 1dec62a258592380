"""Pictures per second of the whole labelling job, beside those of its detector alone, in one run on the same pictures.

``python benchmarks/label.py --pictures FOLDER [--model NAME|PATH] [--times N]`` serves the pictures of FOLDER from
loopback (N times each under different addresses), labels them with the real job, and then runs the same detector on the
same pictures, decoded and letterboxed beforehand: what no job can exceed. Spark's start is given apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from rich.table import Table

from cortex_spark.config import Settings
from cortex_spark.console import err, out
from cortex_spark.demo.server import Answer, Server
from cortex_spark.detect import Model, load_detector, resolve_model
from cortex_spark.engine.label import LabelJob, LabelReport
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.schema import IMAGE_URLS
from cortex_spark.session import spark_session
from cortex_spark.sources.urls import URL_RULE, image_id
from cortex_spark.table import Warehouse

_HOSTS = 8
_RUNS = 3


def detector_alone(model: Model, bodies: list[bytes], cores: int) -> list[float]:
    """Pictures per second of several runs, with all ``cores``."""
    detector = load_detector(model, threads=cores)
    decoded = [cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) for body in bodies]
    prepared = [detector.prepare(np.asarray(image, np.uint8)) for image in decoded if image is not None]
    detector.detect(prepared[:16])  # warm
    rates = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        detector.detect(prepared)
        rates.append(len(prepared) / (time.perf_counter() - started))
    return rates


def whole_job(model: Model, bodies: list[bytes], times: int) -> tuple[LabelReport, float]:
    """The report of a labelling job over all pictures, and the seconds that Spark took to start."""
    answers = {
        (f"h{number % _HOSTS}.localhost", f"/{turn}/{number}"): Answer(body)
        for turn in range(times)
        for number, body in enumerate(bodies)
    }
    with tempfile.TemporaryDirectory() as root, Server(answers) as server:
        started = time.perf_counter()
        spark = spark_session("benchmark")
        start = time.perf_counter() - started
        warehouse = Warehouse(spark, root)
        rows: list[tuple[object, ...]] = [
            (image_id(url), url, host, "public", "list", None, None, None, datetime.now(UTC), [], URL_RULE)
            for (host, path), url in ((a, f"http://{a[0]}:{server.port}{a[1]}") for a in answers)
        ]
        warehouse.insert_new(spark.createDataFrame(rows, IMAGE_URLS), "image_urls")
        settings = Settings(allow_private_hosts=("*.localhost",))
        report = LabelJob(warehouse, model, EngineConfig(settings, root), host_urls=len(answers)).run()
    return report, start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--times", type=int, default=10, help="addresses per picture")
    arguments = parser.parse_args()
    bodies = [path.read_bytes() for path in sorted(arguments.pictures.iterdir()) if path.is_file()]
    if not bodies:
        parser.error(f"{arguments.pictures} holds no files")
    model = resolve_model(arguments.model)
    cores = len(os.sched_getaffinity(0))
    err.print(f"{len(bodies):,} pictures, {model.describe()}, {cores} cores")
    report, start = whole_job(model, bodies, arguments.times)
    alone = statistics.median(detector_alone(model, bodies, cores))
    table = Table("", "pictures/s", "of the detector alone")
    table.add_row("detector alone (median of 3)", f"{alone:.1f}", "1.00")
    table.add_row("the whole job, commits included", f"{report.rate:.1f}", f"{report.rate / alone:.2f}")
    table.caption = f"{report.urls:,} URLs, outcomes {dict(report.outcomes)}; Spark started in {start:.1f} s"
    out.print(table)


if __name__ == "__main__":
    main()
