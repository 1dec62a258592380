"""Settings from the environment (``CORTEX_...``), checked once when they are read."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cortex_spark import __version__

#: Our name in robots.txt and X-Robots-Tag (RFC 9309, 2.2.1); the user agent begins with it.
PRODUCT_TOKEN: Final = "cortex-spark"

_MAIL: Final = re.compile(r"(mailto:)?[^@\s<>()]+@[^@\s<>()]+\.[^@\s<>()]+")

#: A list in one variable, with commas.
_Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What an installation sets once; what changes from run to run is an option of the command."""

    model_config = SettingsConfigDict(env_prefix="CORTEX_", extra="ignore", frozen=True)

    #: Where the owner of a site reaches us: an e-mail or a web address. Nothing public is visited without one.
    contact: str | None = None
    #: Host names (``*.example.org`` for all below) whose addresses may be private: for tests and intranets.
    allow_private_hosts: _Names = ()
    #: Name servers, ``ip`` or ``ip:port``; none: the system's.
    nameservers: _Names = ()
    #: A file of certificates (PEM) that are trusted beside the system's.
    ca_file: Path | None = None
    #: A file with hashes of pictures that are never taken in: a sha256 per line, ``#`` begins a comment.
    refused_hashes: str | None = None
    #: What cursors are signed with; by default a key that the warehouse keeps.
    cursor_key: str | None = None
    #: Where a crawl's files are read from.
    crawl_base_url: str = "https://data.commoncrawl.org/"
    #: Requests to one host at a time, and seconds between the starts of two (robots.txt may ask for more). All URLs of
    #: a host are in one task.
    host_connections: int = Field(default=2, ge=1)
    host_delay: float = Field(default=0.5, ge=0)
    #: What a host's delay lets begin later than so many seconds after its first request is left to a later batch; so is
    #: what has not begun when its answers have taken as long.
    host_seconds: float = Field(default=150.0, gt=0)
    #: Whether robots.txt is asked for and obeyed.
    obey_robots: bool = True
    #: Directives of pages and ``X-Robots-Tag`` headers that are taken for a no.
    refuse_directives: _Names = ("noai", "noimageai", "noindex", "noimageindex", "noml", "none")
    #: Hosts that fail one after the other, without an answer from any, until our own network is suspected; 0: never.
    outage_hosts: int = Field(default=20, ge=0)
    #: Requests at a time in one task.
    connections: int = Field(default=128, ge=1)
    #: Seconds until a connection stands, between two pieces of an answer, and for a whole download with its redirects.
    connect_timeout: float = Field(default=10.0, gt=0)
    read_timeout: float = Field(default=20.0, gt=0)
    download_timeout: float = Field(default=60.0, gt=0)
    #: Bytes after which a download is broken off.
    max_bytes: int = Field(default=64 << 20, ge=1)
    #: Pixels above which a picture is not decoded; the header tells before anything is.
    max_pixels: int = Field(default=100_000_000, ge=1)
    #: ``full``: pictures are decoded at their size. ``scaled``: a larger JPEG only as large as the detector's input
    #: needs it, which is faster and costs some of the histogram's accuracy (docs/speed.md).
    decode: Literal["full", "scaled"] = "full"
    #: Seconds after which a decoder hangs.
    decode_timeout: float = Field(default=30.0, gt=0)

    @field_validator("allow_private_hosts", "nameservers", "refuse_directives", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value

    @field_validator("contact")
    @classmethod
    def _reachable(cls, value: str | None) -> str | None:
        value = (value or "").strip()
        if not value:
            return None
        parts = urlsplit(value)
        page = parts.scheme in ("http", "https") and "." in (parts.hostname or "")
        if (
            not (value.isascii() and value.isprintable())
            or set(value) & set(" ()")
            or not (page or _MAIL.fullmatch(value))
        ):
            raise ValueError(f"{value!r} is neither an e-mail address nor the address of a page (https://...)")
        return value

    @field_validator("nameservers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            host, port = split_port(server)
            try:
                ipaddress.ip_address(host)
                valid = 0 < port < 65536
            except ValueError:
                valid = False
            if not valid:
                raise ValueError(
                    f"{server!r} is no address of a name server: write 192.0.2.1, 192.0.2.1:5353 or [::1]:53"
                )
        return value

    @field_validator("ca_file")
    @classmethod
    def _exists(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"{value} is no file; name a bundle of certificates in PEM")
        return value

    @property
    def user_agent(self) -> str:
        """Who we are for the servers we visit: ``cortex-spark/0.1.0 (+https://example.org/bot)``."""
        return f"{PRODUCT_TOKEN}/{__version__}" + (f" (+{self.contact})" if self.contact else "")

    def allows_private(self, host: str) -> bool:
        """Whether the addresses of ``host`` may be private."""
        name = host.lower().strip("[]").rstrip(".")
        return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in self.allow_private_hosts)

    def may_visit(self, host: str) -> bool:
        """Whether ``host`` may be asked for anything: the public web only by somebody who can be reached."""
        return self.contact is not None or self.allows_private(host)


#: Said where ``Settings.may_visit`` says no.
NO_CONTACT: Final = (
    "set CORTEX_CONTACT to an e-mail address or a web page where the owners of sites can reach you "
    "(hosts of an intranet: name them in CORTEX_ALLOW_PRIVATE_HOSTS)"
)


def split_port(server: str, default: int = 53) -> tuple[str, int]:
    """Address and port of a name server.

    >>> split_port("[::1]:5353"), split_port("::1"), split_port("192.0.2.1:54")
    (('::1', 5353), ('::1', 53), ('192.0.2.1', 54))
    """
    if server.startswith("["):
        host, _, rest = server[1:].partition("]")
        port = rest.removeprefix(":")
    elif server.count(":") == 1:
        host, _, port = server.partition(":")
    else:
        host, port = server, ""
    if not port:
        return host, default
    return host, int(port) if port.isascii() and port.isdecimal() else 0
