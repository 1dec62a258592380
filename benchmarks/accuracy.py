"""mAP of the rows that the engine writes, against people's labels and Ultralytics' own validation; what shortcuts cost.

``python -m benchmarks.accuracy --photos FOLDER --weights FILE.pt [--int8 FOLDER]``: FOLDER has ``images/val`` and
``labels/val`` in YOLO form. Ultralytics' validation (letterboxed squares, confidence 0.001, IoU 0.7) runs on the same
weights and photographs; then the engine's rows are scored with each shortcut. ``--warehouse DIR`` scores the rows of
the table ``samples`` as well, by the hash of their pictures: label with ``--confidence 0.001 --multi-label`` for that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pyspark.sql import functions as F
from rich.table import Table

from benchmarks.common.pictures import load
from benchmarks.common.usage import cores
from cortex_spark.config import Settings
from cortex_spark.console import err, out
from cortex_spark.detect import Model, resolve_model
from cortex_spark.detect.models import PRECISIONS, ultralytics_yolo
from cortex_spark.engine.pipeline import EngineConfig, Pipeline
from cortex_spark.schema import PLANS
from cortex_spark.sources import store

#: Every box that could count: mAP integrates over all confidences.
FLOOR: Final = 0.001

#: People's boxes of one picture, (N, 5): class id, centre x and y, width, height, relative to the picture.
Truth = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Mean average precision over the classes that occur."""

    map: float  # IoU 0.5 to 0.95
    map50: float


def truths(photos: Path, bodies: Sequence[bytes]) -> dict[str, Truth]:
    """People's labels by the sha256 of the picture; ``bodies`` are the files of ``images/val``, re-encoded or not."""
    files = sorted(path for path in (photos / "images" / "val").iterdir() if path.is_file())
    return {
        hashlib.sha256(body).hexdigest(): _labels(photos / "labels" / "val" / f"{file.stem}.txt")
        for file, body in zip(files, bodies, strict=True)
    }


def _labels(file: Path) -> Truth:
    return np.loadtxt(file, ndmin=2).reshape(-1, 5) if file.exists() else np.zeros((0, 5))


def engine_rows(bodies: Iterable[bytes], model: Model) -> list[dict[str, Any]]:
    """What the engine writes into ``samples`` for each picture, by way of the warehouse's store."""
    with tempfile.TemporaryDirectory() as root:
        plan = []
        for number, body in enumerate(bodies):
            file = Path(root, "picture")
            file.write_bytes(body)
            url = store.store_url(store.put(root, file))
            plan.append({**dict.fromkeys(PLANS.names), "_id": str(number), "url": url, "tries": 0})
        pipeline = Pipeline(EngineConfig(Settings(), root, detector_threads=cores()), model, None)
        return [row["sample"] for row in pipeline.run(plan) if row["sample"] is not None]


def score(rows: Iterable[Mapping[str, Any]], labels: Mapping[str, Truth], names: Sequence[str]) -> Score:
    """The mAP of ``samples``' rows, a picture without a row counting as missed.

    Matching and integration are Ultralytics'.
    """
    import torch
    from ultralytics.models.yolo.detect import DetectionValidator
    from ultralytics.utils.metrics import ap_per_class, box_iou

    boxes = {row["hash"]: row for row in rows}
    class_ids = {name: number for number, name in enumerate(names)}
    parts: list[list[npt.NDArray[Any]]] = [[], [], [], []]
    with tempfile.TemporaryDirectory() as scratch:
        matcher = DetectionValidator(save_dir=Path(scratch))
        for key, truth in labels.items():
            row = boxes.get(key, {"width": 1, "height": 1, "object_analysis": [[]]})
            found = row["object_analysis"][0]
            corners = np.array([[box[side] for side in ("x1", "y1", "x2", "y2")] for box in found], np.float32)
            classes = np.array([class_ids[box["classname"]] for box in found], np.int64)
            size = np.array([row["width"], row["height"]])
            centre, half = truth[:, 1:3] * size, truth[:, 3:] * size / 2
            wanted = np.hstack([centre - half, centre + half]).astype(np.float32)
            iou = box_iou(torch.from_numpy(wanted), torch.from_numpy(corners.reshape(-1, 4)))
            hits = matcher.match_predictions(torch.from_numpy(classes), torch.from_numpy(truth[:, 0]).long(), iou)
            confidence = np.array([box["confidence"] for box in found])
            for part, values in zip(parts, (hits.numpy(), confidence, classes, truth[:, 0]), strict=True):
                part.append(values)
    precision = ap_per_class(*(np.concatenate(part) for part in parts))[5]
    return Score(float(precision.mean()), float(precision[:, 0].mean()))


def ultralytics_score(weights: Path, photos: Path, imgsz: int) -> Score:
    """What Ultralytics' own validation says of ``weights``."""
    yolo = ultralytics_yolo()(weights)
    with tempfile.TemporaryDirectory() as scratch:  # it writes a cache beside the labels
        for part in ("images", "labels"):
            shutil.copytree(photos / part / "val", Path(scratch, part, "val"))
        data = Path(scratch, "data.yaml")
        data.write_text(json.dumps({"path": scratch, "train": "images/val", "val": "images/val", "names": yolo.names}))
        metrics = yolo.val(
            data=str(data),
            imgsz=imgsz,
            conf=FLOOR,
            iou=0.7,
            rect=False,
            batch=8,
            device="cpu",
            workers=0,
            plots=False,
            verbose=False,
            project=scratch,
        )
        return Score(float(metrics.box.map), float(metrics.box.map50))


def warehouse_rows(
    warehouse: str, labels: Mapping[str, Truth]
) -> tuple[list[dict[str, Any]], Mapping[str, Truth], tuple[str, ...]]:
    """The arguments of ``score`` for the rows of ``samples`` whose pictures have labels; COCO's class names."""
    from cortex_spark.session import spark_session
    from cortex_spark.table import Warehouse

    spark = spark_session("accuracy")
    samples = Warehouse(spark, warehouse).read("samples").where(F.col("hash").isin(*labels))
    columns = samples.select("hash", "width", "height", "object_analysis")
    rows = [row.asDict(recursive=True) for row in columns.collect()]
    return rows, labels, resolve_model("shipped").names


def shortcuts(model: Model) -> list[tuple[str, Model]]:
    """A model as it is and with each shortcut."""
    changes: dict[str, dict[str, Any]] = {
        "f32, squares": {"precision": "f32", "decode": "full", "rectangular": False},
        "f32": {"precision": "f32", "decode": "full"},
        "bf16": {"precision": "bf16", "decode": "full"},
        "f32, scaled decode": {"precision": "f32", "decode": "scaled"},
        "bf16, scaled decode": {"precision": "bf16", "decode": "scaled"},
        "f32, one class a box": {"precision": "f32", "decode": "full", "multi_label": False},
    }
    wanted = changes.items() if model.rectangular else list(changes.items())[1:]
    return [(f"{model.name}, {name}", replace(model, **change)) for name, change in wanted]


def as_on_gpus(weights: str, imgsz: int) -> list[tuple[str, Model]]:
    """The precisions of what runs on GPUs, the exact one first."""
    return [
        (
            f"{Path(weights).stem}, PyTorch, {precision}",
            resolve_model(weights, device="cuda", confidence=FLOOR, imgsz=imgsz, multi_label=True, precision=precision),
        )
        for precision in reversed(PRECISIONS["ultralytics"])
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, action="append", default=[], help="a .pt, may be given several times")
    parser.add_argument("--int8", action="append", default=[], help="an OpenVINO folder, compared with itself")
    parser.add_argument("--imgsz", type=int, default=640, help="of the .pt; at half of it every photograph is scaled")
    parser.add_argument("--side", type=int, help="enlarge the photographs, so that a scaled decode has something to do")
    parser.add_argument("--pytorch", action="store_true", help="what runs on GPUs, too, in its precisions; on this CPU")
    parser.add_argument("--warehouse", help="score the rows of its table 'samples'")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bodies = load(options.photos / "images" / "val", side=options.side)
    labels = truths(options.photos, bodies)
    results: list[tuple[str, Score, Score]] = []
    for weights in options.weights:
        reference = ultralytics_score(weights, options.photos, options.imgsz)
        results.append((f"{weights.name}, Ultralytics' validation", reference, reference))
        model = resolve_model(str(weights), confidence=FLOOR, imgsz=options.imgsz, multi_label=True)
        cases = shortcuts(model)
        if options.pytorch:
            cases += as_on_gpus(str(weights), options.imgsz)
        for name, one in cases:
            err.print(name)
            results.append((name, score(engine_rows(bodies, one), labels, one.names), reference))
    for folder in options.int8:
        cases = shortcuts(resolve_model(folder, confidence=FLOOR, multi_label=True))
        scores = [(name, score(engine_rows(bodies, one), labels, one.names)) for name, one in cases]
        results += [(name, one, scores[0][1]) for name, one in scores]
    if options.warehouse:
        own = score(*warehouse_rows(options.warehouse, labels))
        results.append(("the warehouse's rows", own, results[0][2] if results else own))
    if options.json:
        out.print_json(json.dumps({name: [result.map, result.map50] for name, result, _ in results}))
        return
    table = Table("", "mAP50-95", "mAP50", "against the first")
    for name, result, reference in results:
        table.add_row(name, f"{result.map:.4f}", f"{result.map50:.4f}", f"{result.map - reference.map:+.4f}")
    out.print(table)


if __name__ == "__main__":
    main()
