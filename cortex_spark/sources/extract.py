"""WAT files into ``image_urls``."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cortex_spark.errors import CortexError
from cortex_spark.sources.datasource import WAT_SUFFIXES, WatDataSource, files_of
from cortex_spark.sources.files import expand, total_size
from cortex_spark.sources.landing import land
from cortex_spark.sources.progress import files_progress
from cortex_spark.sources.report import ExtractReport, common
from cortex_spark.table import Warehouse


def extract(warehouse: Warehouse, files: Sequence[str], *, crawl: str | None = None) -> ExtractReport:
    """Puts the pictures that ``files`` refer to into ``image_urls``, as far as they are not there.

    ``files`` are paths, URLs, globs or folders of WAT files, gzip or plain. Of several references to a picture the
    first counts. ``crawl`` names the crawl where the files do not say it themselves. A damaged file yields what is
    sound of it; the report says where it is damaged.

    ``discovered_at`` is when the crawler saw the page, by its WARC-Date, and not when this job ran: that is the moment
    at which the picture is known to have been there, and running the job again, elsewhere or later, makes the same row.

    Raises:
        CortexError: ``files`` name nothing.
    """
    started = time.monotonic()
    paths = expand(files, WAT_SUFFIXES)
    if not paths:
        raise CortexError("no WAT file was named")
    megabytes = total_size(paths)
    options = {} if crawl is None else {"crawl": crawl}

    def stage(folder: str) -> None:
        with files_progress(warehouse.spark, "extract", len(paths), megabytes):
            files_of(warehouse.spark, WatDataSource, paths, **options).write.parquet(folder)

    landed = land(warehouse, paths, stage)
    tally = landed.tally
    return ExtractReport(
        **common(landed, len(paths), time.monotonic() - started),
        records=tally["records"],
        pages=tally["pages"],
        megabytes=tally["bytes"] / 1e6,
        text_megabytes=tally["text_bytes"] / 1e6,
        task_seconds=tally["microseconds"] / 1e6,
    )
