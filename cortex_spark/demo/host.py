"""One host of the demo's web, while it is being built."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from cortex_spark.demo.pictures import File
from cortex_spark.demo.server import Address, Answer
from cortex_spark.demo.warc import Capture

DOMAIN: Final = "localhost"  # RFC 6761: every name below it is this machine
_LAST_MODIFIED: Final = ("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")


@dataclass
class Host:
    """Collects the files and pages of one host."""

    name: str
    port: int
    answers: dict[Address, Answer] = field(default_factory=dict)
    pages: list[Capture] = field(default_factory=list)

    @property
    def domain(self) -> str:
        """Its name, without the port."""
        return f"{self.name}.{DOMAIN}"

    @property
    def root(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://{self.domain}:{self.port}"

    def put(
        self,
        path: str,
        body: bytes,
        content_type: str,
        *headers: tuple[str, str],
        status: int = 200,
        delay: float = 0.0,
    ) -> str:
        """Answers ``path`` (unquoted); gives its address."""
        every = (("Content-Type", content_type), *headers)
        self.answers[self.domain, path] = Answer(body, every, status, delay)
        return self.root + quote(path, safe="/?=&:")

    def file(self, path: str, file: File, *headers: tuple[str, str]) -> str:
        """Serves a picture; gives its address."""
        etag = ("ETag", f'"{file.sha256[:16]}"')
        return self.put(path, file.data, file.content_type, etag, _LAST_MODIFIED, *headers)

    def page(self, path: str, page: str, *headers: tuple[str, str], charset: str = "utf-8") -> None:
        """Serves a page, and keeps it as what a crawl would have captured."""
        body = page.encode(charset)
        content_type = f"text/html; charset={charset}"
        address = self.put(path, body, content_type, *headers)
        sizes = (("Content-Type", content_type), ("Content-Length", str(len(body))), *headers)
        self.pages.append(Capture(address, (("Server", "cortex-demo"), *sizes), body))
