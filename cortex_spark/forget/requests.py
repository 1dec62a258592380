"""What people ask to be taken down, as what is remembered of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import ada_url

from cortex_spark.errors import CortexError
from cortex_spark.sources import store
from cortex_spark.sources.urls import UrlError, image_id, normalise
from cortex_spark.table.forgotten import hashed, is_sha256

#: (kind, value), as the table ``forgotten`` has it.
Entry = tuple[str, str]

#: A name, or an IPv6 address in brackets: nothing that a URL has before or behind its host.
_NAME: Final = re.compile(r"[^\s:/?#@*\\\[\]]+|\[[0-9A-Fa-f:.]+\]")


def entries(
    *,
    urls: Sequence[str] = (),
    hosts: Sequence[str] = (),
    hashes: Sequence[str] = (),
    pages: Sequence[str] = (),
) -> frozenset[Entry]:
    """What is to be remembered.

    Args:
        urls: addresses of pictures, in any form that is the same ``_id``; also those of the warehouse's own store.
        hosts: names without a port, ``*.example.org`` for all below and not itself.
        hashes: sha256 of pictures, hexadecimal.
        pages: addresses of pages, as they stand in ``page_url`` or normalised.

    Raises:
        CortexError: one of them is not what it should be.
    """
    asked: list[tuple[str, Sequence[str]]] = [("url", urls), ("host", hosts), ("hash", hashes), ("page", pages)]
    return frozenset(entry for kind, values in asked for value in values for entry in _READ[kind](value.strip()))


def _url(value: str) -> list[Entry]:
    try:
        found = [("url", image_id(value))]
    except UrlError as error:
        raise CortexError(f"--url {value!r} is not an address: give it with its http:// or https://") from error
    # The file in the store goes by its hash.
    return [*found, *(_hash(store.digest_of(value)) if store.is_stored(value) else [])]


def _host(value: str) -> list[Entry]:
    below = value.startswith("*.")
    name = value.removeprefix("*.")
    try:
        if not _NAME.fullmatch(name):
            raise ValueError(name)
        host = ada_url.URL(f"http://{name}/").hostname.rstrip(".")
    except ValueError as error:
        raise CortexError(
            f"--host {value!r} is not a host's name: give it as example.org, or *.example.org for all below"
        ) from error
    return [("domain", hashed(f"*.{host}"))] if below else [("host", hashed(host))]


def _hash(value: str) -> list[Entry]:
    digest = value.lower()
    if not is_sha256(digest):
        raise CortexError(f"--hash {value!r} is not a sha256: 64 hexadecimal digits, as in the column 'hash'")
    return [("hash", digest)]


def _page(value: str) -> list[Entry]:
    try:
        return [("page", hashed(value)), ("page", hashed(normalise(value)))]
    except UrlError as error:
        raise CortexError(f"--page {value!r} is not an address: give it with its http:// or https://") from error


_READ: Final[dict[str, Callable[[str], list[Entry]]]] = {"url": _url, "host": _host, "hash": _hash, "page": _page}
