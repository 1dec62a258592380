"""Files wherever they are: local paths, ``s3://``, ``gs://``, ``hdfs://`` (whatever ``pyarrow.fs`` opens), ``http(s)://``.

S3's access keys, region and endpoint come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_REGION``,
``AWS_ENDPOINT_URL``, ...), on a cluster from that of the executors. ``http(s)://`` is what the caller named, so private
addresses are as good as any; proxies of the environment are not obeyed.
"""

from __future__ import annotations

import gzip
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any, Final

from pyarrow import fs

from cortex_spark.config import Settings
from cortex_spark.errors import CortexError
from cortex_spark.headers import retry_after
from cortex_spark.sources.warc import Read

_WILDCARD: Final = re.compile(r"[*?\[]")
_HTTP: Final = ("http://", "https://")
_TIMEOUT: Final = 60.0  # seconds without a byte
#: Statuses of a server that has too much to do (Common Crawl's says 503), and seconds to wait before asking again.
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_PAUSES: Final = (1.0, 5.0, 20.0)
#: Seconds that a server's Retry-After is waited for; who asks for more has his file failed.
_LONGEST_PAUSE: Final = 300.0
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_CRAWL: Final = re.compile(r"CC-MAIN-\d{4}(?:-\d{4})?(?:-\d{2,3})?")


def expand(patterns: Iterable[str], suffixes: Sequence[str]) -> list[str]:
    """The files that ``patterns`` name, in their order, each once, with absolute paths.

    A pattern is a file, a URL, a glob (``s3://bucket/crawl/*.wat.gz``, ``**`` for any depth) or a folder, of which all
    files that end in one of ``suffixes`` are taken at any depth. What a glob or a folder holds comes sorted. (In
    ``s3://`` and the like a ``?`` begins options of ``pyarrow.fs``, as ``?region=eu-west-1``, and is no wildcard.)

    Raises:
        CortexError: one of them names nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        files = [pattern] if pattern.startswith(_HTTP) else _expand(pattern, suffixes)
        if not files:
            raise CortexError(f"{pattern}: no such file, or none in it that ends in {', '.join(suffixes)}")
        found.update(dict.fromkeys(files))
    return list(found)


@contextmanager
def open_stream(path: str) -> Iterator[Read]:
    """The bytes of the file at ``path`` as they are stored, in order.

    ``read`` raises OSError where the connection breaks or ends before the announced length. Raises OSError.
    """
    if path.startswith(_HTTP):
        with _open_url(path) as response:

            def read(size: int) -> bytes:
                try:
                    data: bytes = response.read(size)
                except http.client.HTTPException as error:
                    raise ConnectionError(repr(error)) from error
                if not data and response.length:
                    raise ConnectionError(f"closed {response.length} bytes before the announced end")
                return data

            yield read
    else:
        filesystem, inner = _filesystem(path)
        with filesystem.open_input_stream(inner, compression=None) as stream:
            yield stream.read


def open_seekable(path: str) -> IO[bytes]:
    """The file at ``path`` with random access, as Parquet needs it; one behind ``http(s)://`` is refused.

    Raises:
        CortexError: there is no random access.
        OSError: it cannot be opened.
    """
    if path.startswith(_HTTP):
        raise CortexError(f"{path}: a Parquet file is read from a folder or a bucket, not over http")
    filesystem, inner = _filesystem(path)
    stream: Any = filesystem.open_input_file(inner)
    return stream  # type: ignore[no-any-return]


def total_size(paths: Sequence[str]) -> float | None:
    """Megabytes of the files at ``paths`` as they are stored; None where that would take a request for each."""
    if any("://" in path for path in paths):
        return None
    return sum(Path(path).stat().st_size for path in paths) / 1e6


def crawl_files(crawl: str, count: int, base_url: str, skip: int = 0) -> list[str]:
    """``count`` WAT files of the crawl named ``crawl``, from the crawl's own list, behind the first ``skip``.

    Raises:
        CortexError: there is no such crawl below ``base_url``, its list cannot be read, or has no more than ``skip``.
    """
    if not _CRAWL.fullmatch(crawl):
        raise CortexError(f"--crawl {crawl}: crawls have names like CC-MAIN-2024-22")
    base = base_url.rstrip("/") + "/"
    listing = f"{base}crawl-data/{crawl}/wat.paths.gz"
    try:
        with open_stream(listing) as read:
            parts = []
            while data := read(1 << 20):
                parts.append(data)
        lines = gzip.decompress(b"".join(parts)).decode().split()
    except (OSError, EOFError, ValueError) as error:
        raise CortexError(
            f"--crawl {crawl}: {listing} cannot be read ({error}); CORTEX_CRAWL_BASE_URL says where crawls are"
        ) from error
    if skip >= len(lines):
        raise CortexError(f"--skip {skip}: the crawl {crawl} has {len(lines):,} files")
    return [base + line for line in lines[skip : skip + count]]


def crawl_of(path: str) -> str | None:
    """The crawl that a file's path names, if it does."""
    found = re.search(r"crawl-data/(" + _CRAWL.pattern + ")/", path)
    return found[1] if found else None


def _open_url(url: str) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": Settings().user_agent})
    for pause in (*_PAUSES, None):
        try:
            return _OPENER.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            asked = retry_after(error.headers.get("Retry-After"), datetime.now(UTC)) or 0.0
            if pause is None or error.code not in _BUSY or asked > _LONGEST_PAUSE:
                raise
            time.sleep(max(pause, asked))
    raise AssertionError("unreachable")


def plain_scheme(uri: str) -> str:
    """``uri`` as ``pyarrow.fs`` knows it: Hadoop calls S3 ``s3a``."""
    return re.sub(r"^s3[an]://", "s3://", uri)


def _filesystem(path: str) -> tuple[fs.FileSystem, str]:
    """Raises CortexError for a scheme that pyarrow does not know."""
    if "://" not in path:
        return fs.LocalFileSystem(), path
    try:
        return fs.FileSystem.from_uri(plain_scheme(path))
    except ValueError as error:
        raise CortexError(f"{path}: {error}") from error


def _expand(pattern: str, suffixes: Sequence[str]) -> list[str]:
    if "://" not in pattern:
        pattern = str(Path(pattern).expanduser().absolute())
    # What stands before the first wildcard is a folder to look into, or the file itself.
    filesystem, inner = _filesystem(pattern)
    plain, question, options = pattern.partition("?") if "://" in pattern else (pattern, "", "")
    head, tail = plain.removesuffix(inner), question + options
    kind = filesystem.get_file_info(inner).type
    if kind == fs.FileType.File:
        return [pattern]
    if kind == fs.FileType.Directory:
        names = [name for name in _files_below(filesystem, inner) if name.lower().endswith(tuple(suffixes))]
    elif wildcard := _WILDCARD.search(inner):
        folder = inner[: wildcard.start()].rpartition("/")[0] or "/"
        if filesystem.get_file_info(folder).type != fs.FileType.Directory:
            return []
        names = [name for name in _files_below(filesystem, folder) if _matches(name, inner)]
    else:
        return []
    return [head + name + tail for name in sorted(names)]


def _files_below(filesystem: fs.FileSystem, folder: str) -> list[str]:
    entries = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    return [
        entry.path
        for entry in entries
        # Hidden files, and Spark's _SUCCESS and _temporary, are nobody's data.
        if entry.type == fs.FileType.File and not re.search(r"/[._]", entry.path[len(folder) :])
    ]


def _matches(name: str, pattern: str) -> bool:
    """Glob, segment by segment; ``**`` stands for any number of segments."""
    return _match_segments(name.split("/"), pattern.split("/"))


def _match_segments(names: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_match_segments(names[skip:], patterns[1:]) for skip in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], patterns[0]) and _match_segments(names[1:], patterns[1:])
