"""Fixtures that all tests share: the test material, one Spark session, an empty warehouse folder."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from cortex_spark.session import QUICK_JVM, spark_session

os.environ.setdefault("SPARK_SUBMIT_OPTS", QUICK_JVM)
# The web of the tests is their own and needs no patience; tests of politeness say so.
os.environ.setdefault("CORTEX_HOST_DELAY", "0")
# Ultralytics would install packages while tests run.
os.environ["YOLO_AUTOINSTALL"] = "false"

_STARTED = time.monotonic()

TESTS = Path(__file__).parent
#: The files that take half a minute and more, the longest first.
_LONGEST = (
    "engine/test_polite.py",
    "engine/test_label.py",
    "query/test_duck.py",
    "forget/test_takedown.py",
    "upkeep/test_upkeep.py",
    "export/test_images.py",
    "query/test_page.py",
    "engine/test_plan.py",
    "test_session.py",
    "demo/test_run.py",
    "query/test_judge.py",
)

SHARED = Path(os.environ.get("CORTEX_SHARED") or Path(__file__).parents[2] / "shared")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where two processes share the files, those that take longest come first: else one may wait for the other."""
    if hasattr(config, "workerinput"):
        order = {TESTS / name: place for place, name in enumerate(_LONGEST)}
        items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """With CORTEX_SOAK_SECONDS no long test begins later than that: CI ends at its time on slow machines, too."""
    seconds = os.environ.get("CORTEX_SOAK_SECONDS")
    if seconds and item.get_closest_marker("soak") and time.monotonic() - _STARTED > float(seconds):
        pytest.skip(f"the {seconds} seconds for long tests are over")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test material: real crawl files, photographs, detectors."""
    if not (SHARED / "README.md").is_file():
        reason = f"no test material at {SHARED} (CORTEX_SHARED names another place)"
        # CI without it would be green about things it never looked at.
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return SHARED


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One session for the whole run: two cores, four tries per task."""
    # Measured on 2 cores: a labelling job of four pictures takes 12 to 18 s of CPU time instead of 40.
    quick = {
        "spark.sql.shuffle.partitions": "2",
        # VACUUM lists a table's one folder with as many tasks as this, by default 10,000.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    }
    session = spark_session("tests", master="local[2,4]", conf=quick, small_queries=True)
    yield session
    session.stop()


@pytest.fixture
def compiled(spark: SparkSession) -> Iterator[None]:
    """Queries are compiled, as in all sessions but those of jobs whose queries are small; then they read other ways."""
    own = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK"}
    before = {name: spark.conf.get(name) for name in own}
    for name, value in own.items():
        spark.conf.set(name, value)
    yield
    for name, old in before.items():
        spark.conf.set(name, str(old))


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """A folder for a warehouse that is not there yet."""
    return tmp_path / "warehouse"
