from collections.abc import Iterator

import pytest

from tests.fetch.web import RawWeb


@pytest.fixture
def web() -> Iterator[RawWeb]:
    with RawWeb() as web:
        yield web
