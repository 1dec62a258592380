"""Addresses: what is fetched, and what identifies a picture.

Two things are told apart. The *address* is what a browser would ask for: the reference as it stands on the page,
resolved where it is relative. The *normalised* URL is used for nothing but ``_id``, so that one picture written in
several ways is one row. Fetching a normalised URL would break addresses that are signed character by character.

The rule (``URL_RULE``) is stored beside every ``_id`` it made. Version 1:

1. The URL is parsed and written as the WHATWG URL Standard says (https://url.spec.whatwg.org, the library ``ada``):
   scheme and host in lower case, host in Punycode, the scheme's own port dropped, ``.`` and ``..`` segments resolved,
   tabs and line breaks removed, characters that cannot stand in a URL percent-encoded, an empty path made ``/``.
2. The fragment is dropped: it never reaches the server.
3. In the path, percent-encoded letters, digits and ``-._~`` are decoded and the other escapes written in upper case
   (RFC 3986, 6.2.2). A path with a stray ``%`` is left as it is: decoding it could make a new escape.
4. All else stays: the query with its order, its escapes and an empty ``?``, the scheme (http is not https), ``www.``,
   a trailing dot or slash, letter case of path and query, user and password.

It is conservative on purpose. Two addresses that it wrongly keeps apart cost a second download and a row, which the
picture's hash reveals. Two that it wrongly joined would lose a picture, and nothing would ever tell.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final, Literal

import ada_url
import msgspec

#: Version of the rule that makes ``_id`` out of a URL.
URL_RULE: Final = 1

#: Characters; RFC 9110 asks servers to support 8,000, and what is longer is rarely an address.
MAX_LENGTH: Final = 8000

#: Why a reference is no address of a picture on the web.
Fault = Literal["empty", "data_uri", "not_http", "bad_url"]


class UrlError(ValueError):
    """A reference that is no http(s) address; ``fault`` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault: Fault = fault


class Address(msgspec.Struct, frozen=True, gc=False):
    """Where a picture is: ``id`` (its row), ``url`` (as it is fetched) and ``host`` (lower case, without the port).

    ``example.org.`` is the host ``example.org``, whose limits and take-downs are its own; it is asked for as written.
    A picture of the warehouse's own store has no host.
    """

    id: str
    url: str
    host: str | None


_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
#: Escapes that the rule changes: those with a letter in lower case, and those of ``-``, ``.``, digits, letters, ``_``,
#: ``~``. Most URLs in other scripts than Latin are full of escapes that stay as they are.
_CHANGING: Final = re.compile(
    "%(?:[a-f][0-9A-Fa-f]|[0-9A-F][a-f]|2[DE]|3[0-9]|[46][1-9A-F]|5[0-9AF]|7[0-9AE])",
)
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HTTP: Final = ("http://", "https://")
#: What the URL Standard strips from both ends: C0 controls and space.
_BLANK: Final = "".join(map(chr, range(0x21)))
#: An address that is its own normalised form, as most are: the parser and the rule would give it back as it is. A host
#: of lower-case labels that is no number, a path without stray or changing escapes. Not told by it: Punycode, dots.
_PLAIN: Final = re.compile(
    r"https?://((?:[a-z0-9_-]++\.)++[a-z]++)"
    r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*+(?:%(?:[89A-F][0-9A-F]|2[0-9A-CF])[A-Za-z0-9._~!$&'()*+,;=:@/-]*+)*+"
    r"(?:\?[A-Za-z0-9._~!$&()*+,;=:@/?%-]*+)?+"
)
#: How a relative reference begins: ``//host``, ``/path``, ``../path``, or a name, which is no scheme.
_BEGINNING: Final = re.compile(r"//?|(?:\.\.?/)++|(?=\w[^:]*+\Z)", re.ASCII)


def normalise(url: str) -> str:
    """``url``, absolute, in the one form that ``URL_RULE`` gives it.

    Raises:
        UrlError: it is no absolute URL.

    >>> normalise("HTTP://Example.com:80/a/../%7Ecat.jpg?b=2&a=%2f#top")
    'http://example.com/~cat.jpg?b=2&a=%2f'
    """
    try:
        return _canonical(ada_url.normalize_url(url))
    except ValueError as error:
        raise UrlError("bad_url") from error


def image_id(url: str) -> str:
    """The ``_id`` of the picture at ``url``: the first 32 hexadecimal digits of the sha256 of its normalised form.

    Raises:
        UrlError: it is no absolute URL.
    """
    return _digest(normalise(url))


def address(reference: str, base: str | None = None) -> Address:
    """The address that ``reference`` means on a page whose base URL is ``base``.

    An absolute reference stays as it was written, less surrounding blanks; a relative one, or one with line breaks in
    it, becomes what a browser would ask for.

    Raises:
        UrlError: ``reference`` is empty, a ``data:`` URI, of another scheme than http(s), or cannot be parsed.
    """
    absolute = reference if base is None or reference.startswith(_HTTP) else _resolved(reference, base)
    plain = _PLAIN.fullmatch(absolute)
    if plain is not None and "/." not in absolute and "xn--" not in absolute and len(reference) <= MAX_LENGTH:
        return Address(_digest(absolute), absolute, plain[1])
    reference = reference.strip(_BLANK)
    if not reference:
        raise UrlError("empty")
    start = reference[:5].lower()
    if start == "data:":
        raise UrlError("data_uri")
    if start not in ("http:", "https") and ":" in reference and _SCHEME.match(reference):
        raise UrlError("not_http")
    if len(reference) > MAX_LENGTH:
        raise UrlError("bad_url")
    try:
        href: str = ada_url.normalize_url(reference) if base is None else ada_url.join_url(base, reference)
    except ValueError as error:  # also a lone surrogate, which is no Unicode
        raise UrlError("bad_url") from error
    if not href.startswith(_HTTP):
        raise UrlError("not_http")
    as_written = reference.isprintable() and "\\" not in reference and reference[:8].lower().startswith(_HTTP)
    return Address(_digest(_canonical(href)), reference if as_written else href, _host(href))


def _resolved(reference: str, base: str) -> str:
    """A relative reference behind what its beginning means on this page: right where that makes a plain address."""
    beginning = _BEGINNING.match(reference)
    return "" if beginning is None else _meaning(beginning[0], base) + reference[beginning.end() :]


@lru_cache(maxsize=64)
def _meaning(beginning: str, base: str) -> str:
    """The URL of a folder, ``scheme://`` for ``//``."""
    try:
        folder: str = ada_url.join_url(base, "/" if beginning == "//" else beginning or ".")
    except ValueError as error:
        raise UrlError("bad_url") from error
    return folder.partition("//")[0] + "//" if beginning == "//" else folder


def _canonical(href: str) -> str:
    """The rest of the rule, for what the URL Standard's serialiser wrote."""
    href = href.partition("#")[0]
    if "%" not in href:
        return href
    path, mark, query = href.partition("?")
    if not _STRAY_PERCENT.search(path):
        path = _CHANGING.sub(_unescape, path)
    return path + mark + query


def _unescape(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if character in _UNRESERVED else escape[0].upper()


def _digest(normalised: str) -> str:
    return hashlib.sha256(normalised.encode()).hexdigest()[:32]


def _host(href: str) -> str:
    authority = href.split("/", 3)[2].rpartition("@")[2]
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0].rstrip(".")
