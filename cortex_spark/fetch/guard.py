"""Which addresses may be fetched: http(s), and public unless the host is allowed to be private.

Names are checked where they are resolved (``resolver``), so that the connection goes to the very addresses that were
checked; hosts that are written as addresses are checked here.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from cortex_spark.config import Settings

#: RFC 6052: the IPv4 address stands in the last 32 bits.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: All that is handed out of IPv6 (RFC 4291, 2.4); what is special inside of it Python knows, but for documentation.
_IPV6_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_IPV6_DOCUMENTATION: Final = ipaddress.IPv6Network("3fff::/20")

#: Ports on which something else than a web server listens: the Fetch Standard's "bad ports".
BAD_PORTS: Final = frozenset(
    {
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104),
        *(109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526),
        *(
            530,
            531,
            532,
            540,
            548,
            554,
            556,
            563,
            587,
            601,
            636,
            989,
            990,
            993,
            995,
            1719,
            1720,
            1723,
            2049,
            3659,
            4045,
        ),
        *(4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
    }
)


class BlockedAddressError(OSError):
    """A host whose address is not public."""


def is_public(address: str) -> bool:
    """Whether an IP address is reachable from the public internet (IANA's special-purpose registries).

    >>> is_public("93.184.215.14"), is_public("100.64.0.1"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(ip.packed[-4:])))
        if ip.sixtofour is not None and not is_public(str(ip.sixtofour)):
            return False
        if ip not in _IPV6_UNICAST or ip in _IPV6_DOCUMENTATION:
            return False
    return ip.is_global and not ip.is_multicast


class Guard:
    """Refuses addresses that are not public, unless ``settings`` allow the host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check(self, host: str, address: str) -> None:
        """Raise BlockedAddressError if ``host`` may not be fetched from ``address``."""
        if not is_public(address) and not self._settings.allows_private(host):
            raise BlockedAddressError(f"{host} is {address}, which is not a public address")

    def check_literal(self, host: str) -> None:
        """Check a host that is written as an IP address; a name passes (the resolver checks it)."""
        try:
            ipaddress.ip_address(host.strip("[]").partition("%")[0])
        except ValueError:
            return
        self.check(host, host.strip("[]"))
