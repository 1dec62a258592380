"""From photographs and a teacher to the shipped detector and its card's figures (models/README.md: how to run it)."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import torch
import yaml
from fit import fit
from lessons import Frozen, prepare
from network import stages, student
from rich.console import Console
from ultralytics import __version__
from ultralytics.models import YOLO
from ultralytics.nn.tasks import DetectionModel
from views import load, photo_paths

console = Console()


def save_checkpoint(model: DetectionModel, path: Path) -> None:
    """Write a checkpoint that `YOLO(path)` opens."""
    model = model.float().cpu()
    told = {"task": "detect", "model": "student.yaml"}
    model.args = told  # as Ultralytics' own trainer does
    now = datetime.now(UTC).isoformat()
    torch.save({"epoch": -1, "model": model, "train_args": told, "date": now, "version": __version__}, path)


def export(checkpoint: Path, size: int) -> Path:
    """Export to OpenVINO in half precision, one picture of `size` pixels at a time; give the folder."""
    exported = YOLO(checkpoint).export(format="openvino", imgsz=size, batch=1, half=True, verbose=False)
    folder = checkpoint.with_name(f"student{size}_openvino_model")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for suffix, name in ((".xml", "model.xml"), (".bin", "model.bin"), (".yaml", "metadata.yaml")):
        shutil.copy(next(Path(exported).glob(f"*{suffix}")), folder / name)
    shutil.rmtree(exported)
    meta = yaml.safe_load((folder / "metadata.yaml").read_text())
    meta["description"] = "cortex-spark's small detector: EfficientNet-Lite0, taught by a YOLO; see CARD.md"
    meta["author"] = "cortex-spark"
    (folder / "metadata.yaml").write_text(yaml.safe_dump(meta, sort_keys=False))
    return folder


def validation_set(folder: Path, out: Path, names: dict[int, str]) -> Path:
    """Copy `folder`'s images/val and labels/val to where Ultralytics may leave its caches; give the data set's YAML."""
    copied = out / "validation"
    if not copied.exists():
        for kind in ("images", "labels"):
            shutil.copytree(folder / kind / "val", copied / kind / "val")
    data = copied / "data.yaml"
    data.write_text(yaml.safe_dump({"path": str(copied), "train": "images/val", "val": "images/val", "names": names}))
    return data


def validate(model: Path, data: Path, size: int) -> dict[str, float]:
    """Run Ultralytics' validation; give mAP50-95, mAP50 and, by name, each class's mAP50-95."""
    result = YOLO(model, task="detect").val(
        data=str(data), imgsz=size, batch=1, rect=False, plots=False, verbose=False, workers=0, project=str(data.parent)
    )
    classes = {result.names[c]: float(result.box.maps[c]) for c in result.box.ap_class_index}
    return {"mAP50-95": float(result.box.map), "mAP50": float(result.box.map50), **classes}


def report(figures: dict[str, float], title: str) -> None:
    """Print the figures of a validation: overall and the ten best classes."""
    overall = dict(list(figures.items())[:2])
    best = sorted(list(figures.items())[2:], key=lambda kv: -kv[1])[:10]
    console.print(f"[bold]{title}[/]: " + ", ".join(f"{k} {v:.3f}" for k, v in overall.items()))
    console.print("  ten best classes (mAP50-95): " + ", ".join(f"{k} {v:.2f}" for k, v in best))


def speed(folder: Path, size: int, count: int = 200) -> tuple[float, float]:
    """Give images per second on all cores, and processor seconds per image (which a busy machine changes less)."""
    model = ov.Core().compile_model(folder / "model.xml", "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    queue = ov.AsyncInferQueue(model)
    picture = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    for repeat in range(2):  # the first round warms up
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(count if repeat else 10):
            queue.start_async({0: picture})
        queue.wait_all()
    return count / (time.perf_counter() - wall), (time.process_time() - processor) / count


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, help="folders of photographs, no labels needed"
    )
    parser.add_argument(
        "--teacher", type=Path, required=True, help="an Ultralytics detector, .pt (loading it runs its code)"
    )
    parser.add_argument("--epochs", type=int, required=True, help="passes over all views")
    parser.add_argument("--out", type=Path, required=True, help="lessons, checkpoint and export go here")
    parser.add_argument("--val", type=Path, help="folder with images/val and labels/val (YOLO form) to score on")
    parser.add_argument("--views", type=int, default=5, help="views made of each photograph, on average")
    parser.add_argument("--size", type=int, default=320, help="input size in pixels, a multiple of 32")
    parser.add_argument("--score-at", type=int, nargs="*", default=[], help="further input sizes to export and score")
    parser.add_argument("--seed", type=int, default=0)
    # Measured on two busy cores: 0.8 s of processor time a step with one thread, 3 to 9 with two that await each other.
    parser.add_argument("--threads", type=int, default=1, help="of the fit on a CPU; more pay on an idle machine only")
    parser.add_argument("--device", default="cpu", help="where to fit: cpu or cuda")
    return parser.parse_args()


def main() -> None:
    """Make lessons, fit, export and score."""
    args = arguments()
    began = time.monotonic()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    paths = photo_paths(args.photos)
    if args.val:  # never learn from what is measured on
        held_out = {hashlib.sha256(p.read_bytes()).digest() for p in photo_paths([args.val / "images" / "val"])}
        paths = [p for p in paths if hashlib.sha256(p.read_bytes()).digest() not in held_out]
    photos = [load(p, 384) for p in paths]
    console.print(f"{len(photos)} photographs, {args.views} views of each on average, {args.size} pixels")
    names: dict[int, str] = YOLO(args.teacher).names
    model = student(names)
    frozen = Frozen(*stages(model)[:2])
    lessons = prepare(
        photos, args.teacher, frozen, len(names), args.out, views=args.views, size=args.size, seed=args.seed
    )
    del photos
    console.print(f"lessons ready after {(time.monotonic() - began) / 60:.1f} min")
    checkpoint = args.out / "student.pt"
    for averaged in fit(model, lessons, args.epochs, args.seed, torch.device(args.device)):
        save_checkpoint(averaged, checkpoint)
    console.print(f"fitted after {(time.monotonic() - began) / 60:.1f} min")
    for size in (args.size, *args.score_at):
        folder = export(checkpoint, size)
        megabytes = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
        digest = hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest()
        rate, processor = speed(folder, size)
        console.print(f"{folder}: {megabytes:.2f} MB, model.bin sha256 {digest}")
        console.print(f"  {rate:.0f} images/s, {processor * 1000:.0f} ms of processor time per image")
        if args.val:
            data = validation_set(args.val, args.out, names)
            report(validate(checkpoint, data, size), f"torch weights at {size} px")
            report(validate(folder, data, size), f"OpenVINO export at {size} px")


if __name__ == "__main__":
    main()
