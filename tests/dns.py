"""A name server on loopback, whose answers a test can change between two questions."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self

from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord

NXDOMAIN: Final = "NXDOMAIN"
SERVFAIL: Final = "SERVFAIL"
SILENCE: Final = "SILENCE"

#: Addresses of a name (both families), or how there are none.
Resolve = Callable[[str], Sequence[str] | str]


class NameServer:
    """Answers questions for A and AAAA as ``resolve`` says; remembers the names that were asked for."""

    def __init__(self, resolve: Resolve, ttl: int = 0) -> None:
        self.resolve = resolve
        self.asked: list[str] = []
        self._ttl = ttl
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address: Final = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve, name="dns", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            packet, peer = self._socket.recvfrom(4096)
            if not packet:
                return
            answer = self._answer(DNSRecord.parse(packet))
            if answer is not None:
                self._socket.sendto(answer.pack(), peer)

    def _answer(self, question: DNSRecord) -> DNSRecord | None:
        name = str(question.q.qname).rstrip(".").lower()
        family = QTYPE[question.q.qtype]
        if family == "A":
            self.asked.append(name)
        found = self.resolve(name)
        if found == SILENCE:
            return None
        answer = question.reply()
        if isinstance(found, str):
            answer.header.rcode = getattr(RCODE, found)
            return answer
        for address in found:
            ip = ip_address(address)
            if family == {4: "A", 6: "AAAA"}[ip.version]:
                data = A(tuple(ip.packed)) if ip.version == 4 else AAAA(tuple(ip.packed))
                answer.add_answer(RR(question.q.qname, question.q.qtype, rdata=data, ttl=self._ttl))
        return answer
