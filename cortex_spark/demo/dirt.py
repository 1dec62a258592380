"""The dirt that every crawl meets, nearly all of it on one old host."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from html import escape
from typing import Final

from cortex_spark.demo.host import Host
from cortex_spark.demo.pictures import File

_SLOW_SECONDS: Final = 3.0
_CUT: Final = 650  # bytes of a JPEG: all of its headers, next to nothing of the picture
#: A transparent pixel, 43 bytes.
_SPACER: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")


def _header_bomb() -> bytes:
    """A PNG of a hundred bytes that declares 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def publish(old: Host, busy: Host, good: Sequence[File], target: str) -> tuple[dict[str, File], dict[str, str]]:
    """Puts everything on ``old`` that a crawl should be able to stand, and a page that shows it.

    Args:
        old: the host to fill; it gets one page, in another encoding than the rest of the web.
        busy: a host that asks for patience; whoever is polite asks it for nothing else then.
        good: at least four pictures for its few whole addresses.
        target: a picture on another host, to which ``/img/moved.jpg`` leads.

    Returns:
        The addresses of whole pictures with their files, and of the others with the outcome's name.
    """
    jpeg = next(file for file in good if file.content_type == "image/jpeg")
    old.put("/img/moved.jpg", b"", "text/html", ("Location", target), status=302)
    old.put("/1x1.gif", _SPACER, "image/gif")
    whole = {
        old.file("/view?id=7&size=480", jpeg): jpeg,
        old.file("/img/größe einer tasse.jpg", good[1]): good[1],
        old.file("/img/unquoted.jpg", good[2]): good[2],
    }
    slow = old.put("/img/slow.jpg", good[3].data, good[3].content_type, delay=_SLOW_SECONDS)
    whole[slow] = good[3]
    dirt = {
        f"{old.root}/img/gone.jpg": "http_404",
        old.put("/img/broken.jpg", jpeg.data[:_CUT], "image/jpeg"): "decode_error",
        old.put(
            "/img/page.jpg", b"<!DOCTYPE html><title>Log in</title><p>Please log in.", "image/jpeg"
        ): "not_an_image",
        old.put("/drawing?id=3", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"): "unsupported_format",
        old.put("/img/bomb.png", _header_bomb(), "image/png"): "too_many_pixels",
        old.put("/img/empty.jpg", b"", "image/jpeg"): "empty",
        old.put("/img/loop.jpg", b"", "text/html", ("Location", "/img/loop.jpg"), status=301): "too_many_redirects",
        old.put("/img/members.jpg", b"no", "text/plain", status=403): "http_403",
        old.put("/img/error.jpg", b"oops", "text/plain", status=500): "http_500",
        busy.put("/img/busy.jpg", b"", "text/plain", ("Retry-After", "3600"), status=503): "http_503",
        "http://gone.localhost:81/img/cat.jpg": "connection_error",
    }
    spacer = '<img src="/1x1.gif" width="1" height="1" alt="">'
    odd = "".join(
        f'<tr><td background="/1x1.gif">{spacer}<img src="{escape(url)}" alt="Odd {i}"></td></tr>'
        for i, url in enumerate(dirt)
    )
    plain = f"""<html><head><title>Старая страница</title>
<meta http-equiv="Content-Type" content="text/html; charset=windows-1251"></head><body background="/1x1.gif">
<table>{odd}</table>
<img src="view?id=7&amp;size=480" alt="Кот"> <IMG SRC='img/größe einer tasse.jpg' ALT="Чашка">
<img src=img/unquoted.jpg>
<img src="img/moved.jpg" alt="Moved to another host"> <img src="img/slow.jpg" alt="Takes its time">
<img src="" alt="no address"> <img src="ftp://{old.domain}/old.jpg"> <img src="file:///etc/picture.jpg"> <img src="http://">
<img alt="no source">
<iframe src="/frame.html"></iframe>
</body></html>"""
    # In windows-1251 a German name can only be written with character references.
    old.page("/", plain.replace("ö", "&ouml;").replace("ß", "&szlig;"), charset="windows-1251")
    return whole, dirt
