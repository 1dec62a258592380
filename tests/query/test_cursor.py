"""Cursors: whose they are, how long they are good, and what is said of those that are not."""

import stat
import time
from pathlib import Path
from typing import Any

import pytest

from cortex_spark.errors import CortexError
from cortex_spark.query import cursor as cursors
from cortex_spark.query import order
from cortex_spark.query.cursor import KEY_FILE, Cursor, Signer, question_digest
from cortex_spark.query.mongo import compile_query
from cortex_spark.query.page import page
from cortex_spark.table import Warehouse

from .conftest import Stored, make_rows, to_frame

LAST: list[tuple[Any, ...]] = [(1_700_000_000_123, "a"), (None, "ü"), (float("inf"), -(2**63), True, "")]


def question(query: str) -> str:
    return question_digest(compile_query(query).tree, order.DEFAULT)


def cursor(last: tuple[Any, ...] = (1, "a")) -> Cursor:
    return Cursor("a table", 7, question("{}"), last, 25, 99, int(time.time()))


@pytest.mark.parametrize("last", LAST)
def test_what_is_signed_is_read(tmp_path: Path, last: tuple[Any, ...]) -> None:
    """By another process as well: the key is the warehouse's, and nobody else's to read."""
    made = cursor(last)
    assert not (tmp_path / KEY_FILE).exists()
    text = Signer(str(tmp_path)).sign(made)
    assert text is not None
    assert Signer(str(tmp_path)).read(text, made.question) == made
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_without_its_key_a_warehouse_has_no_cursor_any_more(tmp_path: Path) -> None:
    """Also for who has signed with it, and a new key is everybody's."""
    signer = Signer(str(tmp_path))
    old = signer.sign(cursor())
    assert old is not None
    (tmp_path / KEY_FILE).unlink()
    new = Signer(str(tmp_path)).sign(cursor())
    assert new is not None
    assert signer.read(new, question("{}")) == cursor()
    with pytest.raises(CortexError, match="no cursor of this warehouse"):
        signer.read(old, question("{}"))


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer(str(tmp_path))
    text = signer.sign(cursor())
    assert text is not None
    other = Signer(str(tmp_path), "another key")
    forged = text[:5] + ("A" if text[5] != "A" else "B") + text[6:]
    for who, what, of, says in [
        (signer, text, question('{"width": 1}'), "of another query"),
        (signer, forged, question("{}"), "no cursor of this warehouse"),
        (signer, "rubbish", question("{}"), "no cursor of this warehouse"),
        (signer, "", question("{}"), "no cursor of this warehouse"),
        (signer, "a.\udcff", question("{}"), "no cursor of this warehouse"),
        (other, text, question("{}"), "no cursor of this warehouse"),
        (Signer("s3://bucket/warehouse"), text, question("{}"), "CORTEX_CURSOR_KEY"),
    ]:
        with pytest.raises(CortexError, match=says):
            who.read(what, of)
    monkeypatch.setattr(cursors, "LIFETIME", -1)
    with pytest.raises(CortexError, match="has expired"):
        signer.read(text, question("{}"))


def test_a_walk_ends_a_day_after_it_began(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a day after its last page: vacuum may take the files of its version by then."""
    root = stored.warehouse.root
    now = time.time()
    second = page(root, "{}", cursor=page(root, "{}").cursor)
    monkeypatch.setattr(time, "time", lambda: now + 20 * 3600)
    third = page(root, "{}", cursor=second.cursor)
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    with pytest.raises(CortexError, match="has expired"):
        page(root, "{}", cursor=third.cursor)


def test_where_there_is_no_key_there_are_no_cursors() -> None:
    assert Signer("s3://bucket/warehouse").sign(cursor()) is None
    assert Signer("s3://bucket/warehouse", "a key").sign(cursor()) is not None


def test_who_asks_before_there_is_a_warehouse_has_cursors_later(tmp_path: Path) -> None:
    """And a question leaves no key in a folder that is no warehouse."""
    signer = Signer(str(tmp_path / "warehouse"))
    with pytest.raises(CortexError, match="has no key"):
        signer.read("rubbish", question("{}"))
    with pytest.raises(CortexError, match="has no samples yet"):
        page(str(tmp_path), "{}")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "warehouse").mkdir()
    assert signer.sign(cursor()) is not None


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
def test_of_another_warehouse(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """Also where one key, from the environment, signs the cursors of several."""
    monkeypatch.setenv("CORTEX_CURSOR_KEY", "one for all")
    other = Warehouse(stored.warehouse.spark, str(tmp_path))
    other.append_once(to_frame(other.spark, make_rows()), "samples", app_id="test", version=0)
    made = page(other, "{}", engine=engine).cursor
    assert page(other, "{}", engine=engine, cursor=made).page == 2
    with pytest.raises(CortexError, match="no cursor of this warehouse"):
        page(stored.warehouse, "{}", engine=engine, cursor=made)


@pytest.mark.parametrize("engine", ["duckdb", "spark"])
def test_beside_other_words(stored: Stored, engine: Any) -> None:
    """A cursor says page and version; the query and the sort stay as they were."""
    made = page(stored.warehouse, "{}", engine=engine).cursor
    assert made is not None
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"query": "{}", "page": 2}, "or the number of a page"),
        ({"query": "{}", "version": 0}, "the cursor is of version"),
        ({"query": '{"width": {"$gt": 1}}'}, "of another query"),
        ({"query": "{}", "sort": {"width": 1}}, "of another query"),
    ]
    for words, says in wrong:
        with pytest.raises(CortexError, match=says):
            page(stored.warehouse, engine=engine, cursor=made, **words)
