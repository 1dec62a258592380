"""``cortex extract`` and ``cortex ingest``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cortex_spark.console import out
from cortex_spark.errors import CortexError

if TYPE_CHECKING:
    from cortex_spark.sources.report import Report

_Warehouse = Annotated[str, typer.Option(metavar="DIR", help="Folder of the tables.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def extract(
    more: Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="More files, as --wat.")] = None,
    wat: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A WAT file, gzip or plain; a folder or a glob of them; local, s3://, gs://, hdfs:// or https://.",
        ),
    ] = None,
    crawl: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Name of the crawl (CC-MAIN-2024-22). Without files, those of the crawl's own list are read.",
        ),
    ] = None,
    files: Annotated[int, typer.Option(min=1, metavar="N", help="How many files of the crawl's list.")] = 1,
    skip: Annotated[
        int, typer.Option(min=0, metavar="N", help="Files of the list that are passed over: those read before.")
    ] = 0,
    warehouse: _Warehouse = "warehouse",
    as_json: _Json = False,
) -> None:
    """Put the pictures that the pages of WAT files refer to into image_urls.

    Running it again adds nothing that is there. A damaged file is reported, with the offset, and its sound part kept.
    """
    from cortex_spark.config import Settings
    from cortex_spark.session import spark_session
    from cortex_spark.sources.extract import extract as run
    from cortex_spark.sources.files import crawl_files
    from cortex_spark.table import Warehouse

    named = [*(wat or []), *(more or [])]
    if not named:
        if crawl is None:
            raise CortexError("nothing to read: name files with --wat, or a crawl with --crawl")
        named = crawl_files(crawl, files, Settings().crawl_base_url, skip)
    _end(run(Warehouse(spark_session("cortex extract"), warehouse), named, crawl=crawl), as_json)


def ingest(
    more: Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="More lists, as --urls.")] = None,
    urls: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A list of URLs: text (one per line), CSV or Parquet (column url; alt_text and page_url if there), "
            "also .gz; a folder or a glob of them; local, s3://, gs://, hdfs:// or https://.",
        ),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="A folder of pictures that are not online; they are copied into the store."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="public, private, crowdsourced or synthetic. Default: public for --urls, private for --files. "
            "What is private stays out of exports unless they ask for it.",
        ),
    ] = None,
    warehouse: _Warehouse = "warehouse",
    as_json: _Json = False,
) -> None:
    """Put a list of URLs, or a folder of pictures that are not online, into image_urls."""
    from cortex_spark.session import spark_session
    from cortex_spark.sources.ingest import checked_source, ingest_files, ingest_urls
    from cortex_spark.table import Warehouse

    lists = [*(urls or []), *(more or [])]
    if bool(lists) == (files is not None):
        raise CortexError("name either lists with --urls or a folder with --files")
    kind = checked_source(source or ("public" if files is None else "private"))
    target = Warehouse(spark_session("cortex ingest"), warehouse)
    _end(ingest_urls(target, lists, kind) if files is None else ingest_files(target, files, kind), as_json)


def _end(report: Report, as_json: bool) -> None:
    """Print the report; a run that could read nothing at all is an error."""
    if as_json:
        document: dict[str, Any] = report.as_json()
        out.print_json(json.dumps(document))
    else:
        out.print(report)
    if report.files and report.unreadable == report.files:
        raise CortexError("none of the files could be read")
