"""The warehouse's own store: pictures that are not online, content-addressed.

A picture lies at ``<warehouse>/store/ab/cd/<sha256>`` and its row's URL is ``cortex-store:sha256/<sha256>``. No server
answers to that scheme, so a private picture cannot be fetched, linked or leaked by its URL.

On a cluster the warehouse has to be a folder that all machines see under the same path.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from cortex_spark.errors import CortexError

_PREFIX: Final = "cortex-store:sha256/"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_STORE: Final = "store"
_NEW: Final = ".new-"
_CHUNK: Final = 1 << 20


def is_stored(url: str) -> bool:
    """Whether ``url`` names a picture of the store."""
    return url.startswith(_PREFIX)


def store_url(digest: str) -> str:
    """The URL of the picture whose sha256 is ``digest``."""
    return _PREFIX + digest


def store_path(root: str, digest: str) -> Path:
    """Where the picture with sha256 ``digest`` (64 lower-case hexadecimal digits) lies in the warehouse ``root``.

    Raises:
        CortexError: the warehouse is not a folder.
        ValueError: ``digest`` is no sha256; nothing else may become a path.
    """
    if not _HASH.fullmatch(digest):
        raise ValueError(f"not a sha256: {digest!r}")
    return local_path(root) / _STORE / digest[:2] / digest[2:4] / digest


def local_path(root: str) -> Path:
    """The folder that the warehouse ``root`` (a path, or a ``file:`` URL) is.

    Raises:
        CortexError: it is a bucket.
    """
    if root.startswith("file:"):
        return Path(unquote(re.sub(r"^file:(//)?", "", root)))
    if not is_local(root):
        raise CortexError(
            f"{root}: the store of private pictures needs a warehouse in a folder (on a cluster: one that all machines"
            " see), not in a bucket"
        )
    return Path(root)


def is_local(root: str) -> bool:
    """Whether the warehouse ``root`` is a folder, and so may have a store."""
    return root.startswith("file:") or "://" not in root


def put(root: str, path: Path, refused: Collection[str] = ()) -> str:
    """Copy the file at ``path`` into the store and return its sha256; one that is ``refused`` is not kept.

    A picture is there as a whole or not at all, whoever else puts the same one at the same time. Raises OSError.
    """
    folder = local_path(root) / _STORE
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    # Hashed and copied in one pass: a file that changes meanwhile still lies under the hash of what was copied.
    new = folder / f"{_NEW}{uuid.uuid4().hex}"  # not by tempfile: jobs of other users read it
    try:
        with path.open("rb") as source, new.open("xb") as copy:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        target = store_path(root, digest.hexdigest())
        if not target.exists() and digest.hexdigest() not in refused:
            target.parent.mkdir(parents=True, exist_ok=True)
            new.replace(target)
    finally:
        new.unlink(missing_ok=True)
    return digest.hexdigest()


def unfinished(root: str) -> list[Path]:
    """Copies that ``put`` is making, or was making when its process was killed."""
    return list((local_path(root) / _STORE).glob(f"{_NEW}*"))


def digest_of(url: str) -> str:
    """The sha256 of the picture that ``url`` names, as the URL says it."""
    return url.removeprefix(_PREFIX)


def read(root: str, url: str) -> bytes:
    """The bytes of the picture that ``url`` names.

    Raises:
        FileNotFoundError: the store does not hold it.
        OSError: it cannot be read.
    """
    try:
        return store_path(root, digest_of(url)).read_bytes()
    except ValueError as error:
        raise FileNotFoundError(url) from error
