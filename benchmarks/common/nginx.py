"""A local nginx that serves a few pictures under as many addresses as wanted."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_START_SECONDS: Final = 10.0
_FLUSH_SECONDS: Final = 0.1  # of the access log
_CONFIG: Final = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    log_format at '$msec $status';
    access_log {folder}/access.log at buffer=64k flush=100ms;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    open_file_cache max=10000;
    types {{ image/jpeg jpg; }}
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{
        {listen}
        root {folder}/pictures;
        # /17/3.jpg is 3.jpg for the 17th time: other addresses, the same bytes.
        location ~ ^/[0-9]+/ {{ rewrite ^/[0-9]+/(.*)$ /$1 break; }}
    }}
}}
"""


class Nginx:
    """Serves ``bodies`` from loopback, by a process of its own; a context manager.

    ``hosts`` of them, 127.0.0.1, 127.0.0.2, ...: a crawler that is polite per host sees several.
    """

    def __init__(self, bodies: Sequence[bytes], hosts: int = 1) -> None:
        self._bodies = bodies
        self.hosts: Final = tuple(f"127.0.0.{number}" for number in range(1, hosts + 1))

    def __enter__(self) -> Self:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # ended by a time limit, the server ends, too
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        # Debian keeps it where only root looks.
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise SystemExit("nginx is not on the PATH: install it (Debian: apt install nginx-light)")
        self._folder = Path(tempfile.mkdtemp(prefix="benchmark-nginx-"))
        self._folder.chmod(0o755)  # its worker may be another user
        pictures = self._folder / "pictures"
        pictures.mkdir()
        for number, body in enumerate(self._bodies):
            (pictures / f"{number}.jpg").write_bytes(body)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        config = self._folder / "nginx.conf"
        listen = " ".join(f"listen {host}:{self.port} backlog=4096;" for host in self.hosts)
        config.write_text(_CONFIG.format(folder=self._folder, listen=listen))
        self._process = subprocess.Popen([program, "-c", str(config), "-e", str(self._folder / "error.log")])
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    said = (self._folder / "error.log").read_text()
                    self._stop()
                    raise SystemExit(f"nginx did not start: {said}") from None
                time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def process(self) -> int:
        """The process id of nginx's master."""
        return self._process.pid

    def urls(self, count: int, salt: int = 0) -> list[str]:
        """``count`` addresses, each picture as often as it takes; another ``salt`` gives others."""
        hosts, pictures = self.hosts, len(self._bodies)
        return [
            f"http://{hosts[place % len(hosts)]}:{self.port}/{salt * 1000 + place // pictures}/{place % pictures}.jpg"
            for place in range(count)
        ]

    def times(self) -> list[float]:
        """When pictures were sent, whole, in seconds since the epoch."""
        time.sleep(2 * _FLUSH_SECONDS)
        lines = (line.split() for line in (self._folder / "access.log").read_text().splitlines())
        return [float(at) for at, status in lines if status == "200"]

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
