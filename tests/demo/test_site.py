"""The small web: what it shows is what its server answers, and its WAT leads to all of it."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import Counter
from pathlib import Path
from urllib.parse import quote, urldefrag, urljoin

import aiohttp
import pytest
from PIL import Image

from cortex_spark import outcomes
from cortex_spark.config import Settings
from cortex_spark.demo import photos, pictures
from cortex_spark.demo.server import Answer, Server
from cortex_spark.demo.site import Web, build
from cortex_spark.errors import CortexError
from cortex_spark.fetch import Fetched, Fetcher, Request
from cortex_spark.measure import BadPictureError, measure

from .test_wat import envelopes


def request(url: str) -> Request:
    """As the crawl of the demo's web asks: what the pages of the press say, only the WAT knows."""
    return Request(url, directives=("noai", "noimageai") if url.startswith("http://press.") else ())


def fetch(*urls: str) -> list[Fetched]:
    async def every() -> list[Fetched]:
        async with Fetcher(Settings.model_validate({"allow_private_hosts": "*.localhost", "host_delay": 0})) as fetcher:
            return list(await asyncio.gather(*(fetcher.fetch(request(url)) for url in urls)))

    return asyncio.run(every())


def test_a_few_hundred_pictures_on_several_hosts(demo_web: Web) -> None:
    assert 200 <= len(demo_web.pictures) <= 300
    files = list(demo_web.pictures.values())
    assert len({file.sha256 for file in files}) >= 200
    assert {file.content_type for file in files} == {"image/jpeg", "image/png", "image/webp"}
    hosts = Counter(url.split(":")[1].strip("/") for url in demo_web.pictures)
    assert len(hosts) >= 10
    assert {"cats.localhost", "street.localhost", "press.localhost", "old.localhost"} <= set(hosts)


def test_the_same_web_for_the_same_port_and_seed(demo_web: Web, demo_server: Server) -> None:
    first = pictures.make(0)
    pictures.make.cache_clear()
    assert pictures.make(0) is not first
    again = build(demo_server.port)
    assert again.answers == demo_web.answers
    assert again.pages == demo_web.pages


def test_pictures_are_what_they_say(demo_web: Web) -> None:
    for file in demo_web.pictures.values():
        with Image.open(io.BytesIO(file.data)) as picture:
            picture.load()
            assert (picture.size, picture.get_format_mimetype()) == ((file.width, file.height), file.content_type)


def test_wat_leads_to_every_address(demo_web: Web, demo_wat: Path) -> None:
    found: set[str] = set()
    for record in envelopes(demo_wat):
        page = record["Envelope"]["WARC-Header-Metadata"].get("WARC-Target-URI", "")
        response = record["Envelope"]["Payload-Metadata"].get("HTTP-Response-Metadata", {})
        for link in response.get("HTML-Metadata", {}).get("Links", ()):
            if link["path"] in ("IMG@/src", "A@/href"):
                found.add(quote(urldefrag(urljoin(page, link["url"])).url, safe="/?=&:%"))
    assert set(demo_web.pictures) | set(demo_web.dirt) <= found


def test_directives_of_pages_that_opt_out(demo_web: Web, demo_wat: Path) -> None:
    said: dict[str, set[str]] = {}
    for record in envelopes(demo_wat):
        response = record["Envelope"]["Payload-Metadata"].get("HTTP-Response-Metadata", {})
        metas = response.get("HTML-Metadata", {}).get("Head", {}).get("Metas", ())
        robots = [meta["content"] for meta in metas if meta.get("name") == "robots"]
        host = record["Envelope"]["WARC-Header-Metadata"].get("WARC-Target-URI", "//").split("/")[2].split(".")[0]
        said.setdefault(host, set()).update([*robots, response.get("Headers", {}).get("X-Robots-Tag", "")])
    assert "noai, noimageai" in said["press"] & said["studio"]
    assert "noai, noimageai" not in said["cats"]


def test_every_address_answers_as_it_should(demo_web: Web, demo_server: Server) -> None:
    """Through the real fetcher and the real decoder, as the engine would."""
    demo_server.forget()
    urls = [*demo_web.pictures, *demo_web.dirt]
    assert demo_web.refused
    for url, fetched in zip(urls, fetch(*urls), strict=True):
        outcome = fetched.outcome
        if fetched.outcome == outcomes.OK and fetched.body is not None:
            try:
                assert measure(fetched.body, max_pixels=100_000_000).hash == hashlib.sha256(fetched.body).hexdigest()
            except BadPictureError as error:
                outcome = error.outcome
        assert (url, outcome) == (url, "opt_out" if url in demo_web.refused else demo_web.dirt.get(url, "ok"))
        if outcome == outcomes.OK:
            assert fetched.body == demo_web.pictures[url].data
    asked = Counter((line.host, line.path) for line in demo_server.requests())
    loop = [count for (_, path), count in asked.items() if path == "/img/loop.jpg"]
    assert loop == [11]
    moved = next(iter(demo_web.pictures))
    assert (
        len(demo_server.requests("cats.localhost", "/" + moved.split("/", 3)[3])) == 2
    )  # itself, and as a redirect's target
    assert demo_server.requests(host="old.localhost", path="/img/gone.jpg")[0].status == 404
    assert all(line.user_agent.startswith("cortex-spark") for line in demo_server.requests())


def test_robots_of_the_hosts(demo_server: Server, demo_web: Web) -> None:
    names = ("cats", "space", "old", "nobody")
    answers = fetch(*(f"http://{name}.localhost:{demo_server.port}/robots.txt" for name in names))
    assert [answer.status for answer in answers] == [200, 200, 404, 421]
    assert b"Crawl-delay: 1" in (answers[1].body or b"")


def test_a_server_of_ones_own() -> None:
    answers = {("a.localhost", "/x y?q=ü"): Answer(b"body", (("X-One", "1"),), 203)}

    async def ask(port: int) -> tuple[int, bytes, str]:
        url = f"http://127.0.0.1:{port}/x%20y?q=%C3%BC"
        async with aiohttp.ClientSession() as session, session.get(url, headers={"Host": f"A.localhost:{port}"}) as got:
            return got.status, await got.read(), got.headers["X-One"]

    with Server(answers) as server:
        assert asyncio.run(ask(server.port)) == (203, b"body", "1")
        assert [(request.host, request.path, request.status) for request in server.requests()] == [
            ("a.localhost", "/x y?q=ü", 203)
        ]
        server.forget()
        assert server.requests() == []


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = photos.Photo("x", "cats", "x", "no-such-package", "x.png", "none")
    monkeypatch.setattr(photos, "PHOTOS", (missing,))
    photos.load.cache_clear()
    with pytest.raises(CortexError, match=r"no-such-package.*'\.\[demo\]'"):
        pictures.make(seed=2)
    photos.load.cache_clear()
