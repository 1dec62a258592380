"""What a killed task leaves behind for the next."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cortex_spark.engine.journal import Journal
from cortex_spark.fetch import HostState
from cortex_spark.local import local_folder


@pytest.fixture
def key() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    _file(name).unlink(missing_ok=True)


def _file(key: str) -> Path:
    return local_folder("journals") / f"{key}.journal"


def test_finished_and_suspects(key: str) -> None:
    with Journal(key) as first:
        assert not first.found
        for picture in ("a", "b", "c"):
            first.begun(picture)
        first.done("b", {"outcome": "ok"})
    with Journal(key) as second:
        assert second.found
        assert second.finished == {"b": {"outcome": "ok"}}
        assert second.suspects == {"a", "c"}
        second.done("a", {"outcome": "decoder_crash"})
    with Journal(key) as third:
        assert set(third.finished) == {"a", "b"}
        assert third.suspects == {"c"}
        third.remove()
    assert not _file(key).exists()


def test_what_hosts_have_asked_for(key: str) -> None:
    soon = datetime(2026, 1, 1, tzinfo=UTC)
    with Journal(key) as first:
        first.learned(HostState("h.example", delay=2.0))
        first.learned(HostState("h.example", delay=2.0, not_before=soon))
        first.done("a", {"outcome": "ok"})
    with Journal(key) as second:
        assert second.hosts == {"h.example": HostState("h.example", delay=2.0, not_before=soon)}
        assert set(second.finished) == {"a"}


@pytest.mark.parametrize("lost", [1, 5, 20])
def test_torn_record_is_cut_off(key: str, lost: int) -> None:
    with Journal(key) as first:
        first.done("a", {"outcome": "ok"})
        first.done("b", {"outcome": "timeout", "detail": "x" * 50})
    content = _file(key).read_bytes()
    _file(key).write_bytes(content[:-lost])
    with Journal(key) as second:
        assert set(second.finished) == {"a"}
        second.done("c", {"outcome": "ok"})
    with Journal(key) as third:
        assert set(third.finished) == {"a", "c"}
