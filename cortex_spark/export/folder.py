"""The folder that an export goes to: on this machine, or on any store that ``pyarrow.fs`` opens.

A file is written under a temporary name and moved when it is whole; the manifest comes last. A killed export therefore
leaves whole shards, temporary files, and no manifest. Readers of a folder (Spark, pyarrow, petastorm) pass over names
that begin with a dot or an underscore; a ``manifest.json`` they would take for a shard.
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs

from cortex_spark.errors import CortexError
from cortex_spark.sources.files import plain_scheme

MANIFEST: Final = "_manifest.json"
_SHARD: Final = re.compile(r"shard-\d{5,}\.parquet")
_TEMPORARY: Final = re.compile(r"\..+\.part")


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.parquet"


class HashingSink(io.RawIOBase):
    """A file to write to that knows the sha256 and the number of the bytes written."""

    def __init__(self, stream: pa.NativeFile) -> None:
        super().__init__()
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what was written until now, hexadecimal."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Write and hash."""
        written = bytes(data)
        self._digest.update(written)
        self._stream.write(written)
        self.size += len(written)
        return len(written)


@dataclass(frozen=True)
class Folder:
    """The output folder ``uri``; it travels to Spark's workers and opens its file system there."""

    uri: str
    _opened: list[tuple[fs.FileSystem, str]] = field(default_factory=list, repr=False, compare=False)

    def __reduce__(self) -> tuple[type[Folder], tuple[str]]:
        return Folder, (self.uri,)

    @staticmethod
    def at(out: str) -> Folder:
        """The folder at a path or URI; a relative path is made absolute, since workers run elsewhere."""
        return Folder(out if "://" in out else str(Path(out).expanduser().absolute()))

    def check(self, overwrite: bool) -> list[str]:
        """The names of what lies in the folder, which is made if it is not there.

        Raises:
            CortexError: it is not empty and ``overwrite`` is not set, or holds files that no export wrote.
        """
        system, path = self._open()
        if system.get_file_info(path).type == fs.FileType.File:
            raise CortexError(f"--out {self.uri} is a file; an export goes into a folder")
        system.create_dir(path, recursive=True)
        names = self.names()
        if names and not overwrite:
            raise CortexError(f"--out {self.uri} is not empty; --overwrite replaces an earlier export there")
        foreign = [name for name in names if not self._ours(name)]
        if foreign:
            raise CortexError(f"--out {self.uri} holds {foreign[0]!r}, which no export wrote: name another folder")
        return names

    def prepare(self, overwrite: bool) -> None:
        """Make the folder, empty; raises CortexError as ``check``."""
        names = self.check(overwrite)
        system, path = self._open()
        # The manifest first: a folder without one is not complete.
        for name in sorted(names, key=lambda name: name != MANIFEST):
            system.delete_file(f"{path}/{name}")

    def names(self) -> list[str]:
        """The names of what lies in the folder, hidden files included."""
        system, path = self._open()
        return sorted(info.base_name for info in system.get_file_info(fs.FileSelector(path)))

    def is_begun(self) -> bool:
        """Whether something of an export lies in the folder that has not come to its end."""
        system, path = self._open()
        is_there = system.get_file_info(path).type == fs.FileType.Directory
        return is_there and any(map(self._ours, self.names())) and MANIFEST not in self.names()

    def shards(self) -> int:
        """How many shards are whole."""
        return sum(_SHARD.fullmatch(name) is not None for name in self.names())

    @contextmanager
    def writing(self, name: str) -> Iterator[HashingSink]:
        """A file that gets its ``name`` when the block ends well, and is gone when it does not."""
        system, path = self._open()
        temporary = f"{path}/.{name}.{uuid.uuid4().hex}.part"
        try:
            with system.open_output_stream(temporary) as stream:
                sink = HashingSink(stream)
                yield sink
            system.move(temporary, f"{path}/{name}")
        except BaseException:
            if system.get_file_info(temporary).type != fs.FileType.NotFound:
                system.delete_file(temporary)
            raise

    def _ours(self, name: str) -> bool:
        return name == MANIFEST or any(pattern.fullmatch(name) is not None for pattern in (_SHARD, _TEMPORARY))

    def _open(self) -> tuple[fs.FileSystem, str]:
        if not self._opened:
            try:
                self._opened.append(fs.FileSystem.from_uri(plain_scheme(self.uri)))
            except (pa.ArrowInvalid, OSError, ImportError) as error:
                raise CortexError(f"--out {self.uri} cannot be opened: {error}") from error
        return self._opened[0]
