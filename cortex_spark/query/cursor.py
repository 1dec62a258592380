"""Cursors: signed words that say where a walk through an answer goes on.

A cursor holds the table and its version, a digest of the question (filter and sort), the sort keys of the last document
that was shown, how many were shown until then, and of how many. It is signed with a key of the warehouse, so that
nobody makes one up.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from itsdangerous import BadSignature, URLSafeSerializer

from cortex_spark.errors import CortexError
from cortex_spark.query.order import Order
from cortex_spark.query.tree import Tree
from cortex_spark.sources.store import is_local, local_path

#: Seconds after a walk's first page for which its cursors are good; vacuum keeps what is younger.
LIFETIME: Final = 24 * 3600
#: The file of the warehouse with the key.
KEY_FILE: Final = "_cursor.key"
_SALT: Final = "cortex.query.cursor.3"
NOT_OURS: Final = "this is no cursor of this warehouse: take the one that came with a page"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Behind the document with the sort keys ``last``, which was number ``shown`` (from 1) of ``length``.

    ``table`` is the identity of the table's version, ``begun`` when the walk's first page was answered, in seconds
    since 1970.
    """

    table: str
    version: int
    question: str
    last: tuple[Any, ...]
    shown: int
    length: int
    begun: int


def question_digest(tree: Tree, order: Order) -> str:
    """Names a question: a filter in normal form, and the order of the answer."""
    return hashlib.sha256(repr((tree, order)).encode()).hexdigest()[:32]


class Signer:
    """Makes and reads the cursors of one warehouse.

    The key is ``configured``, or lies in a file of the warehouse that only its owner reads, and that the first cursor
    makes. Where there is neither, as in a bucket, there are no cursors.
    """

    def __init__(self, root: str, configured: str | None = None) -> None:
        self._root = root
        self._configured = configured

    def sign(self, cursor: Cursor) -> str | None:
        """The cursor as text; None where there is no key."""
        serializer = self._serializer(make=True)
        if serializer is None:
            return None
        return str(serializer.dumps([getattr(cursor, part.name) for part in fields(Cursor)]))

    def read(self, text: str, question: str) -> Cursor:
        """The cursor that ``text`` is.

        Raises:
            CortexError: it is none of this warehouse's, too old, or of another question.
        """
        serializer = self._serializer()
        if serializer is None:
            raise CortexError(
                "this warehouse has no key for cursors: set CORTEX_CURSOR_KEY, or give a page and a version"
            )
        try:
            table, version, of, last, shown, length, begun = serializer.loads(text)
        except (BadSignature, UnicodeError):
            raise CortexError(NOT_OURS) from None
        if time.time() > begun + LIFETIME:
            raise CortexError(
                f"the cursor has expired, a walk may take {LIFETIME // 3600} hours: begin again with the first page"
            )
        if of != question:
            raise CortexError("the cursor is of another query: filter and sort have to stay as they were")
        return Cursor(table, version, of, tuple(last), shown, length, begun)

    def _serializer(self, *, make: bool = False) -> URLSafeSerializer | None:
        # Read each time: whoever deletes the key, or makes the warehouse anew, ends all cursors.
        key = self._configured or _stored_key(self._root, make)
        return URLSafeSerializer(key, salt=_SALT) if key else None


def _stored_key(root: str, make: bool) -> str | None:
    if not is_local(root):
        return None
    path = local_path(root) / KEY_FILE
    try:
        return path.read_text() or None
    except FileNotFoundError:
        if not make:
            return None
    except OSError:
        return None
    # There as a whole or not at all, and only one of two that race.
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # of mode 0600
        try:
            with os.fdopen(descriptor, "w") as sink:
                sink.write(secrets.token_hex(32))
            os.link(name, path)
        finally:
            Path(name).unlink()
    except FileExistsError:
        pass
    except OSError:
        return None  # who may only read the warehouse walks by --page and --version
    return path.read_text()
