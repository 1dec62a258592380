"""The handle of a simulated web that runs in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import trustme

from benchmarks.simweb.log import Query, Request
from benchmarks.simweb.server import World, serve
from benchmarks.simweb.sites import DOMAIN, Page, Site, make_sites

_START_SECONDS: Final = 60.0


class SimulatedWeb:
    """Sites on loopback that a crawler with the settings of ``environment()`` takes for the web; a context manager.

    Give ``sites`` for a web of your own; otherwise ``make_sites`` makes one of ``hosts`` and ``urls`` out of ``seed``,
    with ``latency`` in seconds. ``pictures`` are the bodies that its pages send. Linux only: the ways in which a host
    can be dead are addresses of 127/8.
    """

    def __init__(
        self,
        *,
        hosts: int = 2000,
        urls: int | None = None,
        seed: int = 1,
        pictures: Sequence[bytes],
        latency: tuple[float, float] = (0.05, 5.0),
        https: bool = True,
        sites: Sequence[Site] | None = None,
    ) -> None:
        self.sites: Final = tuple(
            make_sites(hosts, urls or 3 * hosts, seed, len(pictures), latency=latency) if sites is None else sites
        )
        self._pictures = tuple(pictures)
        self._https = https

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="simulated-web-"))
        certificate = self._certificate() if self._https else None
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        world = World(self.sites, self._pictures, certificate)
        self._process = context.Process(target=serve, args=(world, other), name="simulated-web", daemon=True)
        self._process.start()
        other.close()
        if not self._connection.poll(_START_SECONDS):
            self._stop()
            raise RuntimeError("the simulated web did not start")
        self.port, self.name_server_port = self._connection.recv()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def process(self) -> int:
        """The server's process id: what it uses is not the crawler's."""
        return self._process.pid or 0

    def url(self, site: Site, page: Page) -> str:
        """Where ``page`` is."""
        return f"{'https' if self._https else 'http'}://{site.host}:{self.port}{page.path}"

    def urls(self) -> list[str]:
        """All listed pages, site by site."""
        return list(self.outcomes())

    def outcomes(self) -> dict[str, str]:
        """What a polite visitor of each URL comes to in the end, by URL."""
        return {self.url(site, page): site.outcome(page) for site in self.sites for page in site.pages if page.listed}

    def environment(self) -> dict[str, str]:
        """Settings with which a crawler finds this web and trusts its certificates."""
        found = {
            "CORTEX_NAMESERVERS": f"127.0.0.1:{self.name_server_port}",
            "CORTEX_ALLOW_PRIVATE_HOSTS": f"*.{DOMAIN}",
            "CORTEX_CONTACT": f"nobody@{DOMAIN}",
        }
        return found | ({"CORTEX_CA_FILE": str(self.ca_file)} if self._https else {})

    @property
    def ca_file(self) -> Path:
        """The certificate, PEM, that signs those of the sites; only with HTTPS."""
        return self._folder / "ca.pem"

    def log(self) -> list[Request]:
        """The requests so far, by their end."""
        found: list[Request] = self._ask("log")
        return found

    def queries(self) -> list[Query]:
        """What the name server was asked so far."""
        found: list[Query] = self._ask("queries")
        return found

    def cpu_seconds(self) -> float:
        """What the server has used."""
        return float(self._ask("cpu_seconds"))

    def forget(self) -> None:
        """Empty both logs."""
        self._ask("forget")

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """While it lasts, connections break, new ones are refused, and names do not resolve."""
        self._ask("break")
        try:
            yield
        finally:
            self._ask("mend")

    def _ask(self, what: str) -> Any:
        self._connection.send(what)
        return self._connection.recv()

    def _stop(self) -> None:
        self._connection.close()  # the server takes that for its end
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _certificate(self) -> str:
        authority = trustme.CA(organization_name="Simulated web", key_type=trustme.KeyType.ECDSA)
        authority.cert_pem.write_to_path(str(self.ca_file))
        issued = authority.issue_cert(f"*.{DOMAIN}", key_type=trustme.KeyType.ECDSA)
        path = self._folder / "server.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)
