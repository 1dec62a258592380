"""The files of conf/: Spark knows every key and takes every value; the discovery script speaks Spark's language."""

import json
import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyspark
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from cortex_spark.jvm import DELTA_PACKAGE
from cortex_spark.session import DELTA_EXTENSION

CONF = Path(__file__).parents[1] / "conf"
FILES = sorted(CONF.glob("*.conf"))
CLUSTERS = [CONF / name for name in ("standalone.conf", "yarn.conf", "kubernetes.conf")]
DISCOVERY = CONF / "gpu" / "getGpusResources.sh"

# Where Spark, its cluster managers and Delta register their settings; an object registers when it is first loaded.
REGISTRIES = [
    "org.apache.spark.internal.config.package$",
    "org.apache.spark.internal.config.Python$",
    "org.apache.spark.internal.config.UI$",
    "org.apache.spark.deploy.k8s.Config$",
    "org.apache.spark.deploy.yarn.config.package$",
    "org.apache.spark.sql.internal.SQLConf$",
    "org.apache.spark.sql.internal.StaticSQLConf$",
    "org.apache.spark.sql.delta.sources.DeltaSQLConf$",
]

# Families of keys that Spark takes apart by itself, each with the form of its values.
FAMILIES = {
    r"spark\.(executor|worker)\.resource\.gpu\.amount": r"\d+",
    r"spark\.task\.resource\.gpu\.amount": r"\d+|0\.\d+",
    r"spark\.(executor|worker)\.resource\.gpu\.discoveryScript": r"/.*\.sh",
    r"spark\.executor\.resource\.gpu\.vendor": r"[a-z.]+",
    r"spark\.sql\.catalog\.spark_catalog": r"[\w.]+",
    r"spark\.yarn\.appMasterEnv\.[A-Z_]+": r".+",
    r"spark\.master": r"local\[[0-9*]+,[0-9]+\]",
}


def settings(spark: SparkSession, file: Path) -> dict[str, str]:
    """What Spark's own reader makes of a properties file."""
    assert spark._jvm is not None
    read = spark._jvm.org.apache.spark.util.Utils.getPropertiesFromFile(str(file))
    pairs = [read.toSeq().apply(i) for i in range(read.size())]
    return {pair._1(): pair._2() for pair in pairs}


def registered(spark: SparkSession, key: str) -> Any:
    """Spark's entry for a key, or None."""
    assert spark._jvm is not None
    loader = spark._jvm.java.lang.Thread.currentThread().getContextClassLoader()
    for name in REGISTRIES:
        spark._jvm.java.lang.Class.forName(name, True, loader)
    return spark._jvm.org.apache.spark.internal.config.ConfigEntry.findEntry(key)


def complaint(spark: SparkSession, key: str, value: str) -> str | None:
    """Why Spark would not take a setting, or None."""
    for family, form in FAMILIES.items():
        if re.fullmatch(family, key):
            return None if re.fullmatch(form, value) else f"{key}: {value!r} is not of the form {form}"
    entry = registered(spark, key)
    if entry is None:
        return f"{key}: unknown"
    assert spark._jvm is not None
    conf = spark._jvm.org.apache.spark.SparkConf(False).set(key, value)
    try:
        conf.get(entry)
    except (Py4JJavaError, PySparkException) as error:
        return f"{key}: {error}"
    return None


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_spark_takes_every_setting(spark: SparkSession, file: Path) -> None:
    read = settings(spark, file)
    written = [line.split()[0] for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert sorted(read) == sorted(written), "a key stands twice, or a line is not KEY VALUE"
    assert [why for key, value in read.items() if (why := complaint(spark, key, value))] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spark.executor.memoryOverheads", "1g"),
        ("spark.executor.memoryOverhead", "much"),
        ("spark.executor.cores", "four"),
        ("spark.sql.session.timeZone", "Mars/Olympus"),
        ("spark.executor.resource.gpu.amount", "0.25"),
    ],
)
def test_the_check_itself_finds_mistakes(spark: SparkSession, key: str, value: str) -> None:
    assert complaint(spark, key, value) is not None


@pytest.mark.parametrize("file", [CONF / "local.conf", *CLUSTERS], ids=lambda file: file.name)
def test_delta_is_the_one_that_belongs_to_the_installed_packages(spark: SparkSession, file: Path) -> None:
    read = settings(spark, file)
    assert read["spark.jars.packages"].split(",")[0] == DELTA_PACKAGE
    assert read["spark.sql.extensions"] == DELTA_EXTENSION
    assert read["spark.jars.excludes"] == settings(spark, CONF / "local.conf")["spark.jars.excludes"]


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda file: file.name)
def test_what_comments_name_belongs_to_the_installed_spark(spark: SparkSession, file: Path) -> None:
    """Hadoop's S3 file system has to be of Spark's Hadoop, and is not excluded with what Spark has."""
    assert spark._jvm is not None
    hadoop = spark._jvm.org.apache.hadoop.util.VersionInfo.getVersion()
    assert f"org.apache.hadoop:hadoop-aws:{hadoop}\n" in file.read_text()
    excludes = settings(spark, file)["spark.jars.excludes"].split(",")
    assert not any(fnmatch("org.apache.hadoop:hadoop-aws", pattern) for pattern in excludes)


def test_the_image_has_the_installed_spark() -> None:
    assert f"FROM apache/spark:{pyspark.__version__} AS spark" in (CONF / "Dockerfile").read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_python_workers_get_memory_and_stay(spark: SparkSession, file: Path) -> None:
    read = settings(spark, file)
    assert "spark.executor.pyspark.memory" not in read
    assert read.get("spark.speculation", "false") == "false"
    assert read.get("spark.python.worker.reuse", "true") == "true"


@pytest.mark.parametrize("indices", [["0"], ["0", "1", "2", "3", "4", "5", "6", "7"]], ids=len)
def test_discovery_script_lists_gpus_as_spark_reads_them(
    spark: SparkSession, tmp_path: Path, indices: list[str]
) -> None:
    answer = discover(tmp_path, f"printf '%s\\n' {' '.join(indices)}")
    assert json.loads(answer.stdout) == {"name": "gpu", "addresses": indices}
    assert spark._jvm is not None
    read = spark._jvm.org.apache.spark.resource.ResourceInformation.parseJson(answer.stdout)
    assert list(read.addresses()) == indices


@pytest.mark.parametrize("nvidia_smi", [None, "exit 9", "true"], ids=["missing", "no driver", "no GPU"])
def test_discovery_script_fails_where_there_is_no_gpu(tmp_path: Path, nvidia_smi: str | None) -> None:
    answer = discover(tmp_path, nvidia_smi)
    assert answer.returncode != 0
    assert answer.stdout == ""


def discover(folder: Path, nvidia_smi: str | None) -> subprocess.CompletedProcess[str]:
    """Runs the discovery script with an nvidia-smi that is the given shell command."""
    if nvidia_smi is not None:
        fake = folder / "nvidia-smi"
        fake.write_text(f'#!/bin/sh\n[ "$*" = "--query-gpu=index --format=csv,noheader" ] || exit 2\n{nvidia_smi}\n')
        fake.chmod(0o755)
    # The real one, where there is one, must not answer.
    path = f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin" if nvidia_smi is not None else "/nowhere"
    bash = "/bin/bash"
    return subprocess.run([bash, DISCOVERY], capture_output=True, text=True, check=False, env={"PATH": path})
