"""What people write, and what is remembered of it."""

from __future__ import annotations

from typing import Any

import pytest

from cortex_spark.errors import CortexError
from cortex_spark.forget.requests import entries
from cortex_spark.sources.store import store_url
from cortex_spark.sources.urls import image_id
from cortex_spark.table.forgotten import hashed

CAT = "ab" * 32


@pytest.mark.parametrize(
    ("asked", "remembered"),
    [
        ({}, set()),
        ({"urls": ["HTTP://A.example:80/1.jpg#x"]}, {("url", image_id("http://a.example/1.jpg"))}),
        ({"urls": [store_url(CAT)]}, {("url", image_id(store_url(CAT))), ("hash", CAT)}),
        ({"hosts": ["Bücher.example"]}, {("host", hashed("xn--bcher-kva.example"))}),
        (
            {"hosts": ["*.Example.org", "example.org"]},
            {("domain", hashed("*.example.org")), ("host", hashed("example.org"))},
        ),
        ({"hosts": ["[::1]"]}, {("host", hashed("[::1]"))}),
        ({"hosts": ["example.org."]}, {("host", hashed("example.org"))}),
        ({"hosts": ["example.org.."]}, {("host", hashed("example.org"))}),
        ({"hashes": [f" {CAT.upper()} "]}, {("hash", CAT)}),
        (
            {"pages": ["http://A.example"]},
            {("page", hashed("http://A.example")), ("page", hashed("http://a.example/"))},
        ),
    ],
)
def test_remembered(asked: dict[str, Any], remembered: set[tuple[str, str]]) -> None:
    assert entries(**asked) == remembered


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"urls": ["example.org/cat.jpg"]}, "--url 'example.org/cat.jpg' is not an address"),
        ({"urls": [store_url("cat")]}, "--hash 'cat' is not a sha256"),
        ({"hosts": ["https://example.org"]}, "is not a host's name"),
        ({"hosts": ["example.org:80"]}, "is not a host's name"),
        ({"hosts": ["example.org:8080"]}, "is not a host's name"),
        ({"hosts": ["example.org/cats"]}, "is not a host's name"),
        ({"hosts": ["me@example.org"]}, "is not a host's name"),
        ({"hosts": ["a.*.example.org"]}, "is not a host's name"),
        ({"hosts": [""]}, "is not a host's name"),
        ({"hosts": ["*."]}, "is not a host's name"),
        ({"hashes": [CAT[1:]]}, "is not a sha256"),
        ({"pages": ["cats"]}, "--page 'cats' is not an address"),
    ],
)
def test_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(CortexError, match=message):
        entries(**asked)
