"""Which addresses may be fetched: http(s), and public unless the host is allowed to be private.

The check sits in the resolver, so that the connection goes to the very addresses that were checked.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

#: RFC 6052: the IPv4 address stands in the last 32 bits.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class BlockedAddressError(OSError):
    """A host whose address is not public."""


def is_public(address: str) -> bool:
    """Whether an IP address is reachable from the public internet (IANA's special-purpose registries)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # An IPv6 address can carry an IPv4 address inside: mapped, 6to4, Teredo or NAT64.
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            embedded = ipaddress.IPv4Address(ip.packed[-4:])
        if embedded is not None and not is_public(str(embedded)):
            return False
    return ip.is_global and not ip.is_multicast


class Guard:
    """Says which hosts may have private addresses; ``allowed`` are names, addresses or ``*.example.org``."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = tuple(pattern.lower() for pattern in allowed)

    def check(self, host: str, address: str) -> None:
        """Raise BlockedAddressError if ``host`` may not be fetched from ``address``."""
        if is_public(address):
            return
        name = host.lower().strip("[]").rstrip(".")
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self._allowed):
            raise BlockedAddressError(f"{host} is {address}, which is not a public address")

    def check_literal(self, host: str) -> None:
        """Check a host that is written as an IP address; a name passes (the resolver checks it)."""
        try:
            ipaddress.ip_address(host.strip("[]").partition("%")[0])
        except ValueError:
            return
        self.check(host, host.strip("[]"))


class GuardedResolver(AbstractResolver):
    """Resolves names and lets no address through that the guard refuses."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of ``host``; raises BlockedAddressError if one of them is refused."""
        if host == "localhost" or host.endswith(".localhost"):
            # RFC 6761, 6.3: such names are loopback and never asked of a name server.
            found = [
                ResolveResult(
                    hostname=host,
                    host="127.0.0.1",
                    port=port,
                    family=socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
            ]
        else:
            found = await self._resolver.resolve(host, port, family)
        for result in found:
            self._guard.check(host, result["host"])
        return found

    async def close(self) -> None:
        """Close the resolver below."""
        await self._resolver.close()
