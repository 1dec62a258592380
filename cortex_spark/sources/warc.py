"""Bytes of a WARC, WAT or WET file to its records, through whatever damage lies between them.

One file of a crawl in some thousands is cut off or has a bad block, and the rest of it is worth having. So the two
framings of such files are read separately: gzip members (one for each record, and checked by their CRC), and in them
records. After damage the next good member or record is looked for, and what was skipped is reported with its offset.

FastWARC is faster on a sound file: 0.10 s against 0.12 s for 20 MB, of the 0.39 s that it takes to get to references
(``benchmarks/extract.py``). But the first damage ends its iteration without saying where, and a file that is cut off
inside a header ends without any sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from deflate import DeflateError, crc32, gzip_decompress
from zlib_ng import zlib_ng

#: ``read(n)``: at most n bytes, none at the end. May raise OSError when a connection breaks.
Read = Callable[[int], bytes]

_MAGIC: Final = b"\x1f\x8b\x08"
_CHUNK: Final = 1 << 18
#: Bytes given to the inflater at once: it hands back what belongs to the next member, and that is copied.
_STEP: Final = 1 << 14
#: A member with more text than this is passed on in parts, unchecked; ``gzip`` of a whole WAT makes such a file.
_WHOLE: Final = 32 << 20
_MAX_HEADER: Final = 1 << 16
#: A damaged length must not make us gather the rest of the file; a page's envelope is at most a few megabytes.
_MAX_RECORD: Final = 64 << 20

_VERSION: Final = re.compile(rb"(?:^|(?<=\n))WARC/[01]\.")
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")  # some tools end lines with a line feed alone


class Damage(NamedTuple):
    """A stretch of a file that could not be read: its offset in the file as it is stored, and what is wrong."""

    offset: int
    reason: str


class Record(NamedTuple):
    """One record; ``offset`` is that of its gzip member, or of its first byte in a plain file."""

    offset: int
    content_type: str
    date: str
    uri: str
    payload: bytes


class Input:
    """A stream that is read once, with the count of its bytes; a connection that breaks is its end."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self.size = 0
        self.broken: str | None = None

    def read(self) -> bytes:
        """The next bytes, none at the end."""
        if self.broken is not None:
            return b""
        try:
            data = self._read(_CHUNK)
        except OSError as error:
            self.broken = f"{type(error).__name__}: {error}"
            return b""
        self.size += len(data)
        return data


def records(source: Input) -> Iterator[Record | Damage]:
    """The records of ``source``, gzip or plain, and its damages, in the order of the file."""
    head = source.read()
    if _MAGIC in head:
        yield from _parse(_members(source, head), plain=False)
    elif _VERSION.search(head):
        yield from _parse(_plain(source, head), plain=True)
    elif head:
        yield Damage(0, "neither gzip nor WARC")
    elif source.broken is None:
        yield Damage(0, "the file is empty")
    if source.broken is not None:
        yield Damage(source.size, f"broken off, {source.broken}")


class _Piece(NamedTuple):
    """Text of a file: all of a member, or the next part of it; ``last`` where no record goes on behind it."""

    offset: int
    text: bytes | bytearray
    last: bool


def _plain(source: Input, head: bytes) -> Iterator[_Piece]:
    offset, text = 0, head
    while text:
        following = source.read()
        yield _Piece(offset, text, last=not following)
        offset, text = offset + len(text), following


class _Window:
    """The part of a file that is being read: ``data[start:]``, and ``offset`` of its first byte in the file."""

    def __init__(self, source: Input, data: bytes) -> None:
        self._source = source
        self._data = data
        self._start = 0
        self.offset = 0

    def peek(self, position: int, size: int) -> bytes:
        """At most ``size`` bytes, from ``position`` bytes behind the start; none at the end of the file."""
        begin = self._start + position
        if begin >= len(self._data):
            following = self._source.read()
            self._data = self._data[self._start :] + following
            self._start, begin = 0, position
        return self._data[begin : begin + size]

    def drop(self, count: int) -> None:
        """Move the start."""
        self._start += count
        self.offset += count

    def until(self, mark: bytes) -> bytes:
        """From the start to the next ``mark`` behind it; nothing if that has not been read yet."""
        following = self._data.find(mark, self._start + 1)
        return self._data[self._start : following] if following >= 0 else b""

    def find(self, mark: bytes) -> bool:
        """Move the start to the next ``mark``; False at the end of the file."""
        while (found := self._data.find(mark, self._start)) < 0:
            self.drop(max(len(self._data) - self._start - len(mark) + 1, 0))  # a mark may lie across two reads
            kept = len(self._data) - self._start
            if not self.peek(kept, 1):
                return False
        self.drop(found - self._start)
        return True


def _members(source: Input, head: bytes) -> Iterator[_Piece | Damage]:
    window = _Window(source, head)
    lost = False  # behind a damage: what looks like a member and is none is part of it
    while not _at_end(window):
        offset, position, size = window.offset, 0, 0
        member = window.until(_MAGIC)
        sound = _inflated(member)
        if sound is not None:
            yield _Piece(offset, sound, last=True)
            window.drop(len(member))
            lost = False
            continue
        text: list[bytes] = []
        inflater = zlib_ng.decompressobj(31)
        fault = ""
        try:
            while not inflater.eof:
                data = window.peek(position, _STEP)
                if not data:
                    fault = "truncated: the file ends inside a gzip member"
                    break
                text.append(inflater.decompress(data))
                position += len(data)
                size += len(text[-1])
                if size > _WHOLE:
                    yield _Piece(offset, b"".join(text), last=False)
                    window.drop(position)
                    position, size, text, lost = 0, 0, [], False
        except zlib_ng.error as error:  # type: ignore[misc]  # its stub says no exception
            fault = f"corrupt gzip member: {error}"
        if fault:
            if not lost and source.broken is None:
                yield Damage(offset, fault)
            lost = True
            window.drop(1)
            if not window.find(_MAGIC):
                return
        else:
            yield _Piece(offset, b"".join(text), last=True)
            window.drop(position - len(inflater.unused_data))
            lost = False


def _inflated(member: bytes) -> bytearray | None:
    """The text of a gzip member that is whole, sound and alone; None for ``zlib_ng`` to say what is the matter.

    libdeflate takes half of zlib-ng's time, but wants to know both lengths, and does not say what is wrong. The end of
    ``member`` is a guess, the next mark of a member; that it ends in checksum and length of the text confirms it.
    """
    size = int.from_bytes(member[-4:], "little")
    if not 0 < size <= _WHOLE or member[3:4] != b"\0":  # flags: names and checksums in the header are rare
        return None
    try:
        text = gzip_decompress(member, size)
    except (DeflateError, ValueError):
        return None
    return text if len(text) == size and crc32(text) == int.from_bytes(member[-8:-4], "little") else None


def _at_end(window: _Window) -> bool:
    """Whether nothing follows but zeros, with which block devices fill up a file."""
    while (first := window.peek(0, 1)) == b"\0":
        data = window.peek(0, _STEP)
        window.drop(len(data) - len(data.lstrip(b"\0")))
    return not first


def _parse(pieces: Iterator[_Piece | Damage], *, plain: bool) -> Iterator[Record | Damage]:
    text: bytes | bytearray = b""
    offset, lost = 0, False
    for piece in pieces:
        if isinstance(piece, Damage):
            text, lost = b"", False
            yield piece
            continue
        if not text:
            offset = piece.offset
        text = text + piece.text if text else piece.text
        position = 0
        while position < len(text):
            if lost:
                found = _VERSION.search(text, position)
                if found is None:
                    position = max(position, len(text) - 16)
                    break
                position, lost = found.start(), False
            here = offset + position if plain else offset
            step = _record(text, position, here, last=piece.last)
            if step is None:
                break
            if step.fault:
                yield Damage(here, step.fault)
            if step.record is not None:
                yield step.record
            position, lost = step.following, step.lost
        if piece.last:
            text, lost = b"", False
        else:
            text = text[position:]
            offset += position if plain else 0


class _Step(NamedTuple):
    record: Record | None
    fault: str
    following: int  # position of the next record, or from where on it is to be looked for
    lost: bool


def _record(text: bytes | bytearray, position: int, offset: int, *, last: bool) -> _Step | None:
    """The record at ``position`` (``offset`` in the file), or what is wrong with it; None if more text is needed."""
    start = _skip_line_ends(text, position)
    if start == len(text):
        return _Step(None, "", start, lost=False)
    if not text.startswith(b"WARC/", start):
        if not last and len(text) - start < 5:
            return None
        return _Step(None, "no WARC record where one should begin", start, lost=True)
    header = _BLANK_LINE.search(text, start, start + _MAX_HEADER)
    if header is None:
        if not last and len(text) - start < _MAX_HEADER:
            return None
        return _Step(None, "truncated: a WARC header that does not end", start + 5, lost=True)
    fields: dict[bytes, bytes] = {}
    for line in bytes(text[start : header.start()]).split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    length = fields.get(b"content-length", b"")
    if not length.isdigit() or int(length) > _MAX_RECORD:
        return _Step(None, f"a WARC record with Content-Length {length[:20]!r}", start + 5, lost=True)
    end = header.end() + int(length)
    following = _skip_line_ends(text, end)
    if not last and following + 5 > len(text):
        return None
    if end > len(text):
        fault = f"truncated: {len(text) - header.end()} of the {int(length)} bytes of a WARC record"
        return _Step(None, fault, start + 5, lost=True)
    apart = text[end:following].count(b"\n")  # two line ends close a record, whatever comes then
    if following < len(text) and apart < 2 and not text.startswith(b"WARC/", following):
        fault = f"Content-Length {int(length)} does not lead to the end of the record"
        if not last or _VERSION.search(text, start + 5):
            return _Step(None, fault, start + 5, lost=True)
        end = following = len(text)  # the member ends with the record, and its CRC is right: the length is wrong
    else:
        fault = ""
    record = Record(
        offset,
        fields.get(b"content-type", b"").decode(errors="replace"),
        fields.get(b"warc-date", b"").decode(errors="replace"),
        fields.get(b"warc-target-uri", b"").decode(errors="replace"),
        bytes(memoryview(text)[header.end() : end]),
    )
    return _Step(record, fault, following, lost=False)


def _skip_line_ends(text: bytes | bytearray, position: int) -> int:
    while text[position : position + 1] in (b"\r", b"\n"):
        position += 1
    return position
