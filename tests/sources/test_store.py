import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from cortex_spark.errors import CortexError
from cortex_spark.sources import store

BODY = b"a picture" * 300_000  # more than one chunk
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(BODY)
    return path


@pytest.mark.parametrize("prefix", ["", "file://", "file:"])
def test_put_and_read(tmp_path: Path, picture: Path, prefix: str) -> None:
    root = f"{prefix}{tmp_path}/warehouse"
    assert store.put(root, picture) == DIGEST
    assert store.put(root, picture) == DIGEST
    url = store.store_url(DIGEST)
    assert url == f"cortex-store:sha256/{DIGEST}"
    assert store.is_stored(url)
    assert not store.is_stored("http://example.com/cat.jpg")
    assert store.read(root, url) == BODY
    expected = tmp_path / "warehouse" / "store" / DIGEST[:2] / DIGEST[2:4] / DIGEST
    assert store.store_path(root, DIGEST) == expected
    assert [path for path in (tmp_path / "warehouse").rglob("*") if path.is_file()] == [expected]


def test_many_at_once_leave_one_whole_picture(tmp_path: Path, picture: Path) -> None:
    root = str(tmp_path / "warehouse")
    threads = [threading.Thread(target=store.put, args=(root, picture)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = [path for path in Path(root).rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == [BODY]


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        store.put(str(tmp_path / "warehouse"), tmp_path)
    assert [path for path in (tmp_path / "warehouse").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "name", ["", "ab", DIGEST.upper(), "../" * 20 + "etc/passwd", DIGEST + "/..", DIGEST[:-1] + "\n", "0" * 64]
)
def test_nothing_but_a_stored_hash_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        store.read(str(tmp_path), "cortex-store:sha256/" + name)


def test_a_bucket_is_refused() -> None:
    with pytest.raises(CortexError, match="not in a bucket"):
        store.store_path("s3a://bucket/warehouse", DIGEST)


def test_another_user_may_read_what_is_stored(tmp_path: Path, picture: Path) -> None:
    before = os.umask(0o022)
    try:
        store.put(str(tmp_path / "warehouse"), picture)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.store_path(str(tmp_path / "warehouse"), DIGEST).stat().st_mode) == 0o644
