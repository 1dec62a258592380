"""The Spark session: Delta Lake works, Java and jars are looked after, what the user has set stands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from cortex_spark import jvm, session
from cortex_spark.errors import CortexError
from cortex_spark.jvm import DELTA_PACKAGE, check_java, class_archive, delta_jars

LOCAL_CONF = Path(__file__).parents[1] / "conf" / "local.conf"
SPARK_SUBMIT = Path(pyspark.__file__).parent / "bin" / "spark-submit"

# Writes and reads a Delta table, shows settings.
SCRIPT = """
import sys
from cortex_spark.session import spark_session
path, *keys = sys.argv[1:]
spark = spark_session("a script")
spark.range(3).coalesce(1).write.format("delta").save(path)
print(spark.read.format("delta").load(path).count(), *map(spark.conf.get, keys))
"""

# A network namespace of our own has a loopback interface, and it is down.
ONLY_LOOPBACK = """
import fcntl, os, socket, struct, sys
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def test_delta_writes_merges_optimizes_and_travels_in_time(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    rows = spark.range(10).selectExpr("id", "id % 3 AS k").coalesce(1)
    # A checkpoint is Parquet that Delta writes by itself.
    rows.write.format("delta").option("delta.checkpointInterval", "2").save(path)
    table = DeltaTable.forPath(spark, path)
    incoming = spark.range(5, 15).selectExpr("id", "-1L AS k").alias("incoming")
    merge = table.alias("old").merge(incoming, "old.id = incoming.id")
    merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
    table.optimize().executeZOrderBy("k")
    table.delete("id = 0")

    assert table.toDF().count() == 14
    assert table.toDF().where("k = -1").count() == 10
    assert spark.read.format("delta").option("versionAsOf", 0).load(path).count() == 10
    assert list(Path(path, "_delta_log").glob("*.checkpoint*.parquet"))


def test_the_running_session_is_returned(spark: SparkSession) -> None:
    again = session.spark_session("again", conf={"spark.sql.shuffle.partitions": "3"})
    assert again.sparkContext is spark.sparkContext
    assert again.conf.get("spark.sql.shuffle.partitions") == "3"
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"


@pytest.mark.parametrize(
    ("master", "expected"),
    [
        ("local", "local[1,4]"),
        ("local[2]", "local[2,4]"),
        ("local[*]", "local[*,4]"),
        ("local[2,1]", "local[2,1]"),
        ("spark://host:7077", "spark://host:7077"),
        ("local-cluster[2,1,1024]", "local-cluster[2,1,1024]"),
    ],
)
def test_local_masters_try_a_task_four_times(master: str, expected: str) -> None:
    assert session._with_retries(master) == expected


@pytest.mark.parametrize(
    ("cores", "small_queries", "expected"),
    [(1, True, "local[2]"), (1, False, "local[*]"), (2, True, "local[*]"), (16, True, "local[*]")],
)
def test_labelling_has_two_batches_at_work_on_one_core_too(cores: int, small_queries: bool, expected: str) -> None:
    assert session._this_machine(cores, small_queries) == expected


@pytest.mark.parametrize("others", ["", "com.example.Extension"])
def test_other_extensions_stay(others: str) -> None:
    once = session._with_delta(others)
    assert once.split(",")[-1] == session.DELTA_EXTENSION
    assert once.startswith(others)
    assert session._with_delta(once) == once


# What `java -version` and `java --add-modules jdk.incubator.vector -version` of real ones answer.
OLD = 'echo "openjdk version \\"11.0.20\\" 2023-07-18" >&2'
VERY_OLD = '[ $# = 1 ] || { echo "Unrecognized option: $1" >&2; exit 1; }; echo \'java version "1.8.0_392"\' >&2'
TRIMMED = '[ $# = 1 ] || { echo "Module $2 not found" >&2; exit 1; }; echo \'openjdk version "21.0.8" 2025-07-15\' >&2'
BROKEN = "echo cannot execute >&2; exit 126"
GOOD = 'echo "openjdk version \\"25\\" 2025-09-16" >&2'


@pytest.mark.parametrize(
    ("java", "complaint"),
    [
        (None, "there is none"),
        (OLD, "is Java 11:"),
        (VERY_OLD, "is Java 8:"),
        (TRIMMED, "jdk.incubator.vector, which the trimmed Java"),
        (BROKEN, "does not start"),
    ],
    ids=["missing", "11", "8", "trimmed", "broken"],
)
@pytest.mark.parametrize("place", ["JAVA_HOME", "PATH"])
def test_a_java_that_spark_would_stumble_over_is_named_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, java: str | None, complaint: str, place: str
) -> None:
    fake_java(monkeypatch, tmp_path, java, place)
    with pytest.raises(CortexError, match=complaint) as raised:
        check_java()
    message = str(raised.value)
    assert place in message
    assert "install a full JDK" in message
    assert message.count("\n") == 0
    assert message.endswith(".")


@pytest.mark.parametrize("place", ["JAVA_HOME", "PATH"])
def test_a_newer_java_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    fake_java(monkeypatch, tmp_path, GOOD, place)
    check_java()


def fake_java(monkeypatch: pytest.MonkeyPatch, home: Path, java: str | None, place: str) -> None:
    binaries = home / "bin"
    binaries.mkdir()
    if java is not None:
        (binaries / "java").write_text(f"#!/bin/sh\n{java}\n")
        (binaries / "java").chmod(0o755)
    if place == "JAVA_HOME":
        monkeypatch.setenv("JAVA_HOME", str(home))
    else:
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setenv("PATH", str(binaries))


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """An Ivy settings file that names a Maven repository in a folder, with the real jars in it."""
    repository = tmp_path / "repository"
    for jar, package in zip(delta_jars(), jvm._PACKAGES, strict=True):
        group, artifact, version = package.split(":")
        folder = repository / group.replace(".", "/") / artifact / version
        folder.mkdir(parents=True)
        shutil.copy(jar, folder / f"{artifact}-{version}.jar")
        (folder / f"{artifact}-{version}.pom").write_text(
            f"<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId>"
            f"<artifactId>{artifact}</artifactId><version>{version}</version></project>"
        )
    return ivy_settings(repository)


def ivy_settings(repository: Path) -> Path:
    settings = repository.with_name("ivysettings.xml")
    settings.write_text(
        '<ivysettings><settings defaultResolver="mirror"/><resolvers>'
        f'<ibiblio name="mirror" m2compatible="true" root="{repository.as_uri()}"/></resolvers></ivysettings>'
    )
    return settings


def test_two_processes_may_fetch_the_jars_at_once(mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jars"
    command = [sys.executable, "-c", "from cortex_spark.jvm import delta_jars; delta_jars()"]
    environment = {**os.environ, "CORTEX_JARS": str(folder), "CORTEX_IVY_SETTINGS": str(mirror)}
    processes = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [text.count("\n") for text in said] == [1, 1], said
    assert "fetching Delta's jars" in said[0]
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert kept == {path.name: path.read_bytes() for path in delta_jars()}


def test_jars_that_are_there_are_not_fetched(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CORTEX_JARS", str(tmp_path / "jars"))
    first = delta_jars(str(mirror))
    shutil.rmtree(tmp_path / "repository")
    capfd.readouterr()
    assert delta_jars(str(mirror)) == first
    assert capfd.readouterr() == ("", "")
    # One that went missing is noticed.
    first[0].unlink()
    with pytest.raises(CortexError):
        delta_jars(str(mirror))


def test_jars_that_cannot_be_fetched_are_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORTEX_JARS", str(tmp_path / "jars"))
    monkeypatch.setenv("CORTEX_IVY_SETTINGS", str(ivy_settings(tmp_path / "empty")))
    with pytest.raises(CortexError, match="CORTEX_IVY_SETTINGS") as raised:
        delta_jars()
    assert DELTA_PACKAGE in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list((tmp_path / "jars").iterdir())


def test_classes_come_out_of_an_archive_that_an_earlier_jvm_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORTEX_JARS", str(tmp_path))
    monkeypatch.setattr(jvm, "_MAX_TRIES", 3)
    java = check_java()
    program = ("-cp", str(Path(pyspark.__file__).parent / "jars" / "*"), "org.apache.ivy.Main", "-version")
    first = jvm._run_java(*class_archive(java, "").split(), *program)
    (left,) = tmp_path.glob("*.left")
    assert "ArchiveClassesAtExit" in class_archive(java, "")  # as long as somebody may still be writing it
    os.utime(left, (0, 0))
    second = jvm._run_java(*class_archive(java, "").split(), "-Xlog:class+load", *program)
    assert re.search(r"org\.apache\.ivy\.Main source: shared objects file \(top\)", second.stdout)
    # One that does not fit costs no start, and nobody a line.
    (archive,) = tmp_path.glob("*.jsa")
    archive.chmod(0o600)
    archive.write_bytes(b"something else")
    third = jvm._run_java(*class_archive(java, "").split(), *program)
    assert (third.returncode, third.stdout, third.stderr) == (0, first.stdout, first.stderr)
    # One whose JVM was killed while it wrote goes away. After some of those there are no more.
    torn = archive.rename(archive.with_suffix(".1.left"))
    os.utime(torn, (0, 0))
    assert "ArchiveClassesAtExit" in class_archive(java, "")
    assert not torn.exists()
    assert class_archive(java, "") == ""


@pytest.mark.parametrize(
    ("java", "told", "variable"),
    [
        ("mixed mode", "", ""),  # no archive of its own that ours could build on
        ("sharing", "-Xshare:off", ""),
        ("sharing", "-Da=b -XX:ObjectAlignmentInBytes=16", ""),
        ("sharing", "", "JAVA_TOOL_OPTIONS=-XX:AOTCache=x"),
        ("sharing", "", "SPARK_CONF_DIR=/etc/spark"),
        ("sharing", "", "SPARK_HOME=/opt/spark"),
        ("sharing", "", "CORTEX_JARS={}/a:b"),
    ],
)
def test_only_a_plain_jvm_is_asked_for_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, java: str, told: str, variable: str
) -> None:
    monkeypatch.setenv("CORTEX_JARS", str(tmp_path))
    assert class_archive("sharing", "-Da=b") != ""
    if variable:
        (tmp_path / "a:b").mkdir()
        name, value = variable.format(tmp_path).split("=", 1)
        monkeypatch.setenv(name, value)
    assert class_archive(java, told) == ""


def test_a_later_start_needs_no_network_and_says_nothing(script: Path, tmp_path: Path) -> None:
    delta_jars()
    unshare = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or run(*unshare, "true").returncode != 0:
        pytest.skip("this machine does not let us make a network namespace")
    blocked = [*unshare, sys.executable, "-c", ONLY_LOOPBACK]
    assert run(*blocked, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 5)").returncode != 0
    answer = run(*blocked, script, tmp_path / "table", "spark.sql.session.timeZone")
    assert (answer.stdout, answer.stderr, answer.returncode) == ("3 UTC\n", "", 0)


def test_under_spark_submit_the_users_settings_stand(script: Path, mirror: Path, tmp_path: Path) -> None:
    answer = run(
        *(SPARK_SUBMIT, "--properties-file", LOCAL_CONF, "--conf", "spark.sql.shuffle.partitions=7"),
        *("--conf", f"spark.jars.ivySettings={mirror}", "--conf", f"spark.jars.ivy={tmp_path / 'ivy'}"),
        *(script, tmp_path / "table"),
        *("spark.sql.shuffle.partitions", "spark.speculation", "spark.sql.session.timeZone"),
        PYSPARK_PYTHON=sys.executable,
    )
    assert answer.returncode == 0, answer.stderr
    # Ivy reports what it fetched on the same output.
    assert answer.stdout.endswith("\n3 7 false UTC\n")


def test_under_spark_submit_without_delta_the_remedy_is_named(script: Path, tmp_path: Path) -> None:
    answer = run(SPARK_SUBMIT, "--master", "local[1]", script, tmp_path / "table", PYSPARK_PYTHON=sys.executable)
    assert answer.returncode != 0
    # spark-submit passes on its script's two outputs as one.
    assert f"--packages {DELTA_PACKAGE}" in answer.stdout
