"""The Spark session: Delta Lake, a quiet console, and defaults that suit one machine.

Whatever the user has set, by ``spark-submit``, ``spark-defaults.conf`` or ``conf/*.conf``, stands; what is set here
fills the gaps.
"""

import atexit
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO

from py4j.protocol import Py4JJavaError
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from cortex_spark.errors import CortexError
from cortex_spark.jvm import DELTA_PACKAGE, check_java, class_archive, delta_jars

DELTA_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"

_NO_CONF: Mapping[str, str] = MappingProxyType({})

# Set unless the user has set them.
_DEFAULTS = {
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Every time in the tables is UTC, whatever the machine's clock shows.
    "spark.sql.session.timeZone": "UTC",
    # Not Spark's INT96, which has no statistics: no reader could skip row groups by a date.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # A second copy of a task would fetch the same pictures again.
    "spark.speculation": "false",
    # Otherwise a user's mistake prints a screen of JSON beside the exception.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}

# The same, for a master that runs inside this process.
_LOCAL_DEFAULTS = {
    "spark.ui.enabled": "false",
    # A host name that does not resolve (a laptop on the move) must not keep Spark from starting.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Spark's 200 and Delta's 50 are made for clusters: as tasks of a few rows each they only cost time here.
    "spark.databricks.delta.snapshotPartitions": "2",
}


# Warnings of Spark about what its callers mean to do, at every use of it.
_CHATTY_LOGGERS = (
    "org.apache.spark.rdd.MapPartitionsRDD",  # a merge checkpoints its source
    "org.apache.spark.sql.classic.SparkSession",  # a notebook's session is used as it is
    "org.apache.spark.sql.execution.window.WindowExec",  # a run's few batches are numbered in one task
    "org.apache.spark.util.SparkStringUtils",  # a plan is long
    "org.apache.spark.sql.delta.commands.UpdateCommand",  # a file without statistics
)

# What the JVM prints without asking a logger: Spark asks for modules itself, and VACUUM says what it has done.
_NOISE = (b"WARNING: Using incubator modules", b"Deleted ")

#: For a JVM that runs many small queries a few times each: its first compiler is enough, and that one's own 48 MB for
#: compiled code are soon full. Measured: 49 s of processor time without this, 29 s with it, for three appends, merges
#: and counts.
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m"
#: The same for queries: compiling each costs more than it gives.
_QUICK_SQL = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


def spark_session(
    app_name: str, *, master: str | None = None, conf: Mapping[str, str] = _NO_CONF, small_queries: bool = False
) -> SparkSession:
    """Returns the running Spark session, or starts one.

    Args:
        app_name: shown in Spark's own user interface.
        master: a Spark master URL; by default what ``spark-submit`` was given, else all cores of this machine. Plain
            ``local[N]`` becomes ``local[N,4]``: without the 4, Spark tries a task only once.
        conf: settings that overrule all others.
        small_queries: what the JVM has to do is little, the work is in Python: on one machine, it spends no time on
            compiling.

    Raises:
        CortexError: Java is missing or too old, Delta's jars cannot be fetched, or a JVM that somebody else started
            has no Delta Lake in it.
    """
    # Workers must run the Python that has this package, not the first one on the path.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    logging.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL)

    if not _jvm_is_running():
        java = check_java()
        _start_jvm(conf, java, QUICK_JVM if small_queries else "")
    SparkContext._ensure_initialized()
    if SparkContext._active_spark_context is None:
        given = dict(SparkConf().getAll())
        settings = given | dict(conf)
        wanted_master = _with_retries(master or settings.get("spark.master") or _this_machine(_cores(), small_queries))
        defaults = _DEFAULTS | (_local_defaults(small_queries) if wanted_master.startswith("local") else {})
        settings = defaults | settings
        settings["spark.master"] = wanted_master
        settings["spark.sql.extensions"] = _with_delta(settings.get("spark.sql.extensions", ""))
    else:
        settings = dict(conf)
    _check_delta()
    builder = SparkSession.builder.appName(app_name)
    for key, value in settings.items():
        builder = builder.config(key, value)
    _hush()
    session = builder.getOrCreate()
    _hush()  # again: a Spark that starts may set its loggers anew
    return session


def _jvm_is_running() -> bool:
    """True under spark-submit, and where a session was started before."""
    return "PYSPARK_GATEWAY_PORT" in os.environ or SparkContext._gateway is not None


def _start_jvm(conf: Mapping[str, str], java: str, options: str) -> None:
    # What a JVM can only be given before it starts. The environment ranks below a user's spark-defaults.conf.
    os.environ.setdefault("SPARK_DRIVER_MEMORY", "2g")
    logs = Path(__file__).with_name("log4j2.properties")
    jars = ",".join(map(str, delta_jars(conf.get("spark.jars.ivySettings"))))
    told = " ".join(value for key, value in conf.items() if key.endswith("JavaOptions"))
    java_options = f"-Dlog4j2.configurationFile={logs.as_uri()} {options} {class_archive(java, told)}"
    launch = {
        # The commands draw a progress line of their own; spark-submit would switch this one on for us.
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.defaultJavaOptions": java_options,
        "spark.jars": jars,
    }
    launch_conf = SparkConf(loadDefaults=False)
    launch_conf.setAll(list((launch | dict(conf)).items()))
    with _stderr_without_noise() as stderr:
        # Its standard output, too: ours is for results.
        gateway = launch_gateway(launch_conf, {"stdout": stderr, "stderr": stderr})  # type: ignore[no-untyped-call]
    SparkContext._ensure_initialized(gateway=gateway)


def _stderr_without_noise() -> IO[bytes]:
    """Returns a pipe whose lines come out at our standard error, less those of ``_NOISE``."""
    read_end, write_end = os.pipe()

    def copy() -> None:
        with os.fdopen(read_end, "rb") as lines:
            for line in lines:
                if not line.startswith(_NOISE):
                    os.write(2, line)

    threading.Thread(target=copy, name="jvm-stderr", daemon=True).start()
    return os.fdopen(write_end, "wb")


def _cores() -> int:
    """The JVM knows what a container or an affinity mask leaves us."""
    assert SparkContext._jvm is not None
    return int(SparkContext._jvm.java.lang.Runtime.getRuntime().availableProcessors())


def _this_machine(cores: int, small_queries: bool) -> str:
    """The master where nobody names one: the labelling job has two batches at work, also where there is one core.

    >>> [_this_machine(cores, small_queries) for cores in (1, 2) for small_queries in (False, True)]
    ['local[*]', 'local[2]', 'local[*]', 'local[*]']
    """
    return "local[2]" if small_queries and cores == 1 else "local[*]"


def _local_defaults(small_queries: bool) -> dict[str, str]:
    # Spark makes this folder at its start, by default in whatever folder the command was called.
    scratch = tempfile.mkdtemp(prefix="spark-warehouse-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return (
        _LOCAL_DEFAULTS
        | (_QUICK_SQL if small_queries else {})
        | {
            "spark.sql.shuffle.partitions": str(2 * _cores()),
            "spark.sql.warehouse.dir": scratch,
        }
    )


def _with_retries(master: str) -> str:
    """Gives a local master four tries per task, as every other master has.

    >>> [_with_retries(m) for m in ("local", "local[2]", "local[*]", "local[2,1]", "spark://host:7077")]
    ['local[1,4]', 'local[2,4]', 'local[*,4]', 'local[2,1]', 'spark://host:7077']
    """
    if master == "local":
        return "local[1,4]"
    return re.sub(r"^local\[(\d+|\*)\]$", r"local[\1,4]", master)


def _with_delta(extensions: str) -> str:
    names = [name for name in extensions.split(",") if name]
    return ",".join(names if DELTA_EXTENSION in names else [*names, DELTA_EXTENSION])


def _hush() -> None:
    assert SparkContext._jvm is not None
    log4j = SparkContext._jvm.org.apache.logging.log4j
    for name in _CHATTY_LOGGERS:
        log4j.core.config.Configurator.setLevel(name, log4j.Level.ERROR)


def _check_delta() -> None:
    jvm = SparkContext._jvm
    assert jvm is not None
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    try:
        jvm.java.lang.Class.forName(DELTA_EXTENSION, False, loader)
    except Py4JJavaError as error:
        raise CortexError(
            "this Spark was started without Delta Lake: start it with"
            f" --properties-file conf/local.conf (or another of conf/), or with --packages {DELTA_PACKAGE}."
        ) from error
