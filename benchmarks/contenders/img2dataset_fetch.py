"""img2dataset, fetching and hashing: no resizing, nothing written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

from img2dataset import download

from benchmarks.contenders.contender import Done, Task, Work, compete


def prepare(task: Task) -> Work:
    """Settings: ``threads`` of each process, ``reencode``: decode each picture (but write none anew), ``format``."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-img2dataset-"))

    def run(urls: list[str]) -> Callable[[], Done]:
        listed, target = folder / "urls.parquet", folder / "out"
        pd.DataFrame({"url": urls}).to_parquet(listed)
        shutil.rmtree(target, ignore_errors=True)
        download(
            url_list=str(listed),
            input_format="parquet",
            output_folder=str(target),
            output_format=task.settings["format"],
            processes_count=task.cores,
            thread_count=task.settings["threads"],
            number_sample_per_shard=-(-len(urls) // (task.cores * task.settings["shards"])),
            resize_mode="no",
            skip_reencode=True,
            disable_all_reencoding=not task.settings["reencode"],
            compute_hash="sha256",
            extract_exif=False,
            timeout=60,
        )
        stats = [pd.read_json(path, typ="series") for path in target.glob("*_stats.json")]
        return lambda: Done(sum(int(one["successes"]) for one in stats))

    run(task.warm_urls)
    return lambda: run(task.urls)


if __name__ == "__main__":
    compete(prepare)
