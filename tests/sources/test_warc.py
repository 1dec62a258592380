"""What is left of a file after every kind of damage, and where the damage is said to be."""

import gzip
import random

import pytest

from cortex_spark.sources.warc import Damage, Input, Record, records
from tests.sources.wats import gz, input_of, numbered, numbers, page, read, record

RECORDS = numbered(8)
MEMBERS = [gzip.compress(one) for one in RECORDS]
FILE = b"".join(MEMBERS)
PLAIN = b"".join(RECORDS)
ALL = list(range(8))


def start(index: int, parts: list[bytes]) -> int:
    return sum(len(part) for part in parts[:index])


def replaced(data: bytes, position: int, new: bytes) -> bytes:
    return data[:position] + new + data[position + len(new) :]


M3 = start(3, MEMBERS)
MIDDLE = M3 + len(MEMBERS[3]) // 2
R3 = start(3, RECORDS)
LOST = [0, 1, 2, 4, 5, 6, 7]

GZIP_DAMAGE = [
    ("a flipped byte", replaced(FILE, MIDDLE, bytes([FILE[MIDDLE] ^ 0xFF])), LOST, M3, "corrupt gzip member"),
    ("a wrong checksum", replaced(FILE, M3 + len(MEMBERS[3]) - 7, b"\0"), LOST, M3, "corrupt gzip member"),
    ("a block of zeros", replaced(FILE, MIDDLE, b"\0" * 40), LOST, M3, "corrupt gzip member"),
    ("bytes that are missing", FILE[:MIDDLE] + FILE[MIDDLE + 9 :], LOST, M3, "corrupt gzip member"),
    ("a spoilt magic number", replaced(FILE, M3, b"XX"), LOST, M3, "corrupt gzip member"),
    ("something between members", FILE[:M3] + b"<html>sorry</html>" + FILE[M3:], ALL, M3, "corrupt gzip member"),
    ("a cut in a member", FILE[:MIDDLE], [0, 1, 2], M3, "truncated"),
    ("a cut in a gzip header", FILE[: M3 + 4], [0, 1, 2], M3, "truncated"),
    ("a cut in a checksum", FILE[: M3 + len(MEMBERS[3]) - 2], [0, 1, 2], M3, "truncated"),
    ("a record without its end", gz([*RECORDS[:3], RECORDS[3][:-40], *RECORDS[4:]]), LOST, M3, "truncated"),
    ("no Content-Length", gz([*RECORDS[:3], RECORDS[3].replace(b"Content-Length", b"X"), *RECORDS[4:]]), LOST, M3, ""),
    ("a header that is cut", gz([*RECORDS[:3], RECORDS[3][:60], *RECORDS[4:]]), LOST, M3, "truncated: a WARC header"),
    ("text instead of a record", gz([*RECORDS[:3], b"sorry", *RECORDS[4:]]), LOST, M3, "no WARC record"),
]

PLAIN_DAMAGE = [
    ("a cut in a record", PLAIN[: R3 + 300], [0, 1, 2], R3, "truncated"),
    ("a cut in a header", PLAIN[: R3 + 60], [0, 1, 2], R3, "truncated: a WARC header"),
    ("a spoilt version", replaced(PLAIN, R3, b"XXXX"), LOST, R3, "no WARC record"),
    ("bytes that are missing", PLAIN[: R3 + 300] + PLAIN[R3 + 320 :], LOST, R3, "Content-Length"),
    ("bytes too many", PLAIN[: R3 + 300] + b"x" * 20 + PLAIN[R3 + 300 :], LOST, R3, "Content-Length"),
    ("a length that is too long", PLAIN.replace(b"Content-Length: ", b"Content-Length: 9", 4), [4, 5, 6, 7], 0, ""),
    ("no Content-Length", PLAIN[: R3 + 80] + PLAIN[R3 + 80 :].replace(b"Content-Length", b"X", 1), LOST, R3, ""),
]


@pytest.mark.parametrize(
    ("data", "kept", "offset", "reason"), [pytest.param(*case[1:], id=case[0]) for case in GZIP_DAMAGE + PLAIN_DAMAGE]
)
def test_damage_is_reported_and_the_rest_kept(data: bytes, kept: list[int], offset: int, reason: str) -> None:
    pages, damages, _ = read(data)
    assert numbers(pages) == kept
    assert damages[0].offset == offset
    assert reason in damages[0].reason


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(FILE, id="gzip, a member for each record"),
        pytest.param(gzip.compress(PLAIN), id="gzip, one member"),
        pytest.param(gz([b"".join(RECORDS[:3]), b"".join(RECORDS[3:])]), id="gzip, members of several records"),
        pytest.param(PLAIN, id="plain"),
        pytest.param(FILE + bytes(512), id="zeros at the end"),
        pytest.param(gz(one.replace(b"\r\n", b"\n") for one in RECORDS), id="line feeds only"),
        pytest.param(PLAIN.replace(b"\r\n", b"\n"), id="line feeds only, plain"),
        pytest.param(gz(one.rstrip() for one in RECORDS), id="nothing behind the record"),
    ],
)
def test_sound_files(data: bytes) -> None:
    pages, damages, reader = read(data)
    assert numbers(pages) == ALL
    assert damages == []
    assert (reader.records, reader.pages) == (8, 8)


def test_a_wrong_length_in_a_sound_member_loses_nothing() -> None:
    payload = page([{"path": "IMG@/src", "url": "https://example.com/3.jpg"}])
    wrong = record(payload, length=len(payload) - 20)
    pages, damages, _ = read(gz([*RECORDS[:3], wrong, *RECORDS[4:]]))
    assert numbers(pages) == ALL
    assert [damage.offset for damage in damages] == [M3]


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize("data", [FILE, PLAIN, GZIP_DAMAGE[0][1], PLAIN_DAMAGE[3][1]])
def test_how_a_stream_is_cut_up_makes_no_difference(data: bytes, step: int) -> None:
    whole = list(records(input_of(data)))
    position = 0

    def dribble(size: int) -> bytes:
        nonlocal position
        position += step
        return data[position - step : position]

    # What kind of file it is, its first read must show.
    first = data[:1000]
    position = 1000
    pieces = iter([first])
    assert list(records(Input(lambda size: next(pieces, None) or dribble(size)))) == whole


def test_a_large_member_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex_spark.sources.warc._WHOLE", 5000)
    many = numbered(200)
    pages, damages, _ = read(gzip.compress(b"".join(many)))
    assert numbers(pages) == list(range(200))
    assert damages == []
    pages, damages, _ = read(gzip.compress(b"".join(many))[:-50])
    assert numbers(pages) == list(range(len(pages)))
    assert 100 < len(pages) < 200
    assert "truncated" in damages[0].reason


def test_a_broken_connection_is_a_damage() -> None:
    parts = iter([FILE[:MIDDLE]])

    def breaking(size: int) -> bytes:
        for part in parts:
            return part
        raise ConnectionResetError("peer is gone")

    found = list(records(Input(breaking)))
    assert len([one for one in found if isinstance(one, Record)]) == 3
    assert found[-1] == Damage(MIDDLE, "broken off, ConnectionResetError: peer is gone")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "neither gzip nor WARC"),
        (gzip.compress(b"crawl-data/x\n", mtime=0), "no WARC record"),
        (record(b"{}").replace(b"application/json", b"application/warc-fields"), "no WAT record"),
    ],
)
def test_what_is_no_wat(data: bytes, reason: str) -> None:
    pages, damages, _ = read(data)
    assert pages == []
    assert reason in damages[0].reason


def test_random_damage_never_raises_and_is_never_silent() -> None:
    random_source = random.Random(3)
    for _ in range(300):
        # A member's checksum leaves nothing undiscovered but what says nothing, such as the time in its header.
        data = bytearray(FILE)
        for _ in range(random_source.randint(1, 4)):
            data[random_source.randrange(len(data))] = random_source.randrange(256)
        pages, damages, _ = read(bytes(data))
        assert damages or len(pages) == 8
