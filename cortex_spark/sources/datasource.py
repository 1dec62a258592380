"""WAT files and lists of URLs as Spark data sources: one partition per file, rows of ``staged.STAGED``.

``spark.dataSource.register(WatDataSource)``, then ``spark.read.format("wat").load("s3://bucket/crawl/*.wat.gz")``. Of
a picture that a file refers to several times, the first reference is a row, and so are those that bring directives.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition
from pyspark.sql.types import StructType

from cortex_spark.errors import CortexError
from cortex_spark.sources.files import crawl_of, expand, open_stream
from cortex_spark.sources.lists import LIST_SUFFIXES, read_list
from cortex_spark.sources.staged import STAGED, StagedFile
from cortex_spark.sources.warc import Damage, Input
from cortex_spark.sources.wat import WatReader

WAT_SUFFIXES = (".wat", ".wat.gz")


def files_of(spark: SparkSession, data_source: type[DataSource], files: Sequence[str], **options: str) -> DataFrame:
    """The rows that ``data_source`` makes of ``files``."""
    registered = _registered.setdefault(spark, set())
    if data_source not in registered:  # Spark warns of a second time
        spark.dataSource.register(data_source)
        registered.add(data_source)
    return spark.read.format(data_source.name()).options(files=json.dumps(files), **options).load()


_registered: Final[WeakKeyDictionary[SparkSession, set[type[DataSource]]]] = WeakKeyDictionary()


@dataclass
class _File(InputPartition):
    index: int
    path: str


class _Reader(DataSourceReader):
    def __init__(self, files: Sequence[str], options: dict[str, str]) -> None:
        self._files = files
        self._options = options

    def partitions(self) -> Sequence[InputPartition]:
        return [_File(index, path) for index, path in enumerate(self._files)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        assert isinstance(partition, _File)
        staged = StagedFile(partition.index, self._options["source"])
        try:
            yield from self._stage(staged, partition.path)
        except (OSError, CortexError) as error:  # of this file; the others are worth having
            if not staged.tally:
                staged.tally["unreadable"] += 1
            staged.finding(0, f"cannot be read: {error}")
        yield from staged.batches(end=True)

    @abstractmethod
    def _stage(self, staged: StagedFile, path: str) -> Iterator[pa.RecordBatch]:
        """Reads the file at ``path`` into ``staged``, handing on what fills a batch."""


class _WatReader(_Reader):
    def _stage(self, staged: StagedFile, path: str) -> Iterator[pa.RecordBatch]:
        with open_stream(path) as read:
            source = Input(read)
            wat = WatReader(source)
            crawl = self._options.get("crawl")
            for page in wat:
                if isinstance(page, Damage):
                    staged.finding(page.offset, page.reason)
                    continue
                part_of = crawl or wat.crawl or crawl_of(path)
                for reason, count in page.dropped.items():
                    staged.tally[f"dropped:{reason}"] += count
                for reference in page.references:
                    staged.reference(
                        reference.kind,
                        reference.address,
                        page_url=page.url,
                        alt=reference.alt,
                        crawl=part_of,
                        seen=page.seen,
                        directives=page.directives,
                    )
                yield from staged.batches()
        staged.tally.update(bytes=source.size, text_bytes=wat.text_bytes, records=wat.records, pages=wat.pages)


class _ListReader(_Reader):
    def _stage(self, staged: StagedFile, path: str) -> Iterator[pa.RecordBatch]:
        for _ in read_list(path, staged):
            yield from staged.batches()


class _FilesDataSource(DataSource):
    suffixes: ClassVar[Sequence[str]]
    default_source: ClassVar[str]
    file_reader: ClassVar[type[_Reader]]

    def schema(self) -> StructType:
        return STAGED

    def reader(self, schema: StructType) -> DataSourceReader:
        options = dict(self.options)
        files = json.loads(options["files"]) if "files" in options else expand([options["path"]], self.suffixes)
        return self.file_reader(files, {"source": self.default_source} | options)


class WatDataSource(_FilesDataSource):
    """``wat``. Options: ``path`` (file, folder, glob, URL) or ``files`` (a JSON list); ``crawl``, ``source``."""

    suffixes = WAT_SUFFIXES
    default_source = "commoncrawl"
    file_reader = _WatReader

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "wat"


class UrlListDataSource(_FilesDataSource):
    """``url_list``. Options: ``path`` (file, folder, glob, URL) or ``files`` (a JSON list); ``source``."""

    suffixes = LIST_SUFFIXES
    default_source = "public"
    file_reader = _ListReader

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "url_list"
