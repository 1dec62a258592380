"""The demo's small web: hosts, and pages in the markup that real pages have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import quote

from cortex_spark.demo import dirt, pictures
from cortex_spark.demo.host import DOMAIN, Host
from cortex_spark.demo.pictures import File
from cortex_spark.demo.server import Address, Answer
from cortex_spark.demo.warc import Capture

_PER_PAGE: Final = 8
_ROBOTS: Final = "User-agent: *\nDisallow: /private/\n"
#: robots.txt of the hosts that have another one; None: they have none.
_OTHER_ROBOTS: Final[dict[str, str | None]] = {"space": _ROBOTS + "Crawl-delay: 1\n", "old": None}
#: Pages that ask not to be used for training: by a meta element, by a header; with how many pictures of which host.
_OPTED_OUT: Final = {"press": ("people", 4), "studio": ("garage", 4)}
_MIRRORED: Final = 5  # pictures of the cats that a second host has too

_PARAGRAPHS: Final = (
    "We went out early, and the light was on our side for once.",
    "Click a picture to see it in full; all of them may be used freely.",
    "Diese Seite hat Umlaute: Größe, Straße, Käffchen.",
    "Немного кириллицы, 少しの日本語, and an &amp; for good measure.",
)


@dataclass(frozen=True)
class Web:
    """Everything that the server answers, and what a crawl of it should find."""

    answers: dict[Address, Answer]
    pages: tuple[Capture, ...]
    #: Address of each whole picture on a page -> its file. Addresses are normalised: no fragment, quoted.
    pictures: dict[str, File]
    #: Those of them that their page or their own headers refuse to us.
    refused: frozenset[str]
    #: Address of each picture that must end badly -> the outcome's name, see ``cortex_spark.outcomes``.
    dirt: dict[str, str]


def _reference(host: Host, file: File, style: int) -> str:
    """The picture ``/img/NAME`` as one of the ways in which pages show one."""
    alt, name, size = escape(file.alt), quote(file.name), f'width="{file.width}" height="{file.height}"'
    bare = f"{host.domain}:{host.port}/img/{name}"
    return (
        f'<figure><img src="../img/{name}" alt="{alt}" {size}><figcaption>{alt}</figcaption></figure>',
        f'<img alt="{alt}" title="{alt}" src="/img/{name}">',
        f'<a href="http://{bare}"><img src="http://{bare}#top" alt="{alt}" loading="lazy"></a>',
        f'<img src="//{bare}" alt="{alt}" srcset="//{bare} 1x, ../img/{name} 2x, ../img/{name} 2x">',
        f'<picture><source srcset="/img/{name} 480w, ../img/{name} 800w" type="{file.content_type}">'
        f'<img src="/pages/../img/{name}" alt="{alt}"></picture>',
        f'<p>{alt}: <a href="../img/{name}" target="_blank" title="{alt}">the picture</a></p>',
    )[style % 6]


def _page(
    host: Host,
    title: str,
    figures: Sequence[str],
    preview: str,
    number: int,
    *,
    robots: str = "index, follow",
    base: str = "",
) -> str:
    """A page with everything around its figures: previews, icons, tracking pixels, style, links, a form."""
    blank = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    og = "name" if number % 2 else "property"  # the standard says property, many pages say name
    text = _PARAGRAPHS[number % len(_PARAGRAPHS)]
    shown = "\n".join(
        f"{figure}\n<img src='{blank}' alt=''>" if i % 3 == 0 else figure for i, figure in enumerate(figures)
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head>
<meta http-equiv="X-UA-Compatible" content="IE=edge">
<title>{escape(title)}</title>
{f'<base href="{base}">' if base else ""}
<meta name="viewport" content="width=device-width">
<meta name="robots" content="{robots}">
<meta name="description" content="{escape(title)}, a page of the demo's small web">
<meta {og}="og:image" content="{preview}">
<meta name="twitter:image" content="{preview}">
<link rel="stylesheet" type="text/css" href="/style.css">
<link rel="icon" type="image/x-icon" href="/favicon.ico">
<link rel="apple-touch-icon" href="/apple-touch-icon.png">
<link rel="image_src" href="{preview}">
<script type="text/javascript" src="/app.js"></script>
<style>body {{ background: url("/img/paper.png") }} @import url(/print.css);</style>
</head><body>
<h1>{escape(title)}</h1>
<p>{text} <a href="/">Home</a> <a href="mailto:us@{host.domain}">Mail</a> <a href="javascript:void(0)">More</a></p>
{shown}
<img src="/favicon-32x32.png" alt="">
<img src="http://stats.{DOMAIN}:{host.port}/pixel.gif?page={number}&amp;w=1&amp;h=1" width="1" height="1" alt="">
<form action="/search" method="get"><input type="image" src="/icons/search.png" alt="Search"></form>
</body></html>
"""


def _pages_of(
    host: Host, files: Sequence[File], *, robots: str = "index, follow", headers: tuple[tuple[str, str], ...] = ()
) -> None:
    """An index and pages of up to eight pictures each."""
    numbers = range(1, -(-len(files) // _PER_PAGE) + 1)
    for number in numbers:
        shown = files[(number - 1) * _PER_PAGE : number * _PER_PAGE]
        figures = [_reference(host, file, number + place) for place, file in enumerate(shown)]
        preview = f"{host.root}/img/{quote(shown[0].name)}"
        # Every third page has a base address; it is the page's own folder, since no WAT at hand carries it.
        base = f"{host.root}/pages/" if number % 3 == 0 else ""
        page = _page(host, f"{host.name.title()}, page {number}", figures, preview, number, robots=robots, base=base)
        host.page(f"/pages/{number}.html", page, *headers)
    links = [f'<a href="/pages/{number}.html">Page {number}</a>' for number in numbers]
    repeated = [_reference(host, file, 1) for file in files[:2]]  # the same address again: first seen wins
    first = f"{host.root}/img/{quote(files[0].name)}"
    host.page("/", _page(host, host.name.title(), links + repeated, first, 0, robots=robots), *headers)


def build(port: int, seed: int = 0) -> Web:
    """The web as it is on ``port``; two calls with the same arguments give the same bytes.

    Raises CortexError when a package with photographs is not installed.
    """
    by_host: dict[str, list[File]] = defaultdict(list)
    for file in pictures.make(seed):
        by_host[file.host].append(file)
    for name, (origin, count) in _OPTED_OUT.items():
        by_host[name], by_host[origin] = by_host[origin][-count:], by_host[origin][:-count]
    spare = by_host["coffee"][-4:]  # the old host has these four
    by_host["coffee"] = by_host["coffee"][:-4]
    by_host["mirror"] = by_host["cats"][:_MIRRORED]  # the same bytes under other addresses

    found: dict[str, File] = {}
    opted_out: set[str] = set()
    hosts: list[Host] = []
    for name, files in by_host.items():
        host = Host(name, port)
        hosts.append(host)
        refused = (("X-Robots-Tag", "noai, noimageai"),) if name == "studio" else ()
        own = {host.file(f"/img/{file.name}", file, *refused): file for file in files}
        found |= own
        opted_out |= own.keys() if name in _OPTED_OUT else set()
        _pages_of(host, files, robots="noai, noimageai" if name == "press" else "index, follow", headers=refused)
    old, busy = Host("old", port), Host("busy", port)
    hosts += [old, busy]
    target = next(iter(found))
    whole, bad = dirt.publish(old, busy, spare, target)
    found |= whole | {f"{old.root}/img/moved.jpg": found[target]}

    answers: dict[Address, Answer] = {}
    for host in hosts:
        rules = _OTHER_ROBOTS.get(host.name, _ROBOTS)
        if rules is not None:
            host.put("/robots.txt", rules.encode(), "text/plain")
        answers |= host.answers
    return Web(answers, tuple(page for host in hosts for page in host.pages), found, frozenset(opted_out), bad)
