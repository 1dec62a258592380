"""Lessons: for every view the frozen stages' features and what the teacher says about it, computed once, on disk.

The teacher's answer is dense: for the anchors where it sees something, its probabilities of all classes and its box.
Its grid is the student's (strides 8, 16, 32 at the same input size): nothing has to be assigned to anything.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from network import Stage
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from ultralytics.models import YOLO
from views import Picture, make

BATCH = 16
ANCHORS = 256  # kept of a view's S*S*21/1024 anchors: those on which the teacher is surest
FAINT = 0.02  # a teacher's probability below which an anchor is background
CLEAR = 0.3  # a teacher's probability above which a photograph counts as showing a class


class Frozen(nn.Module):
    """The student's frozen stages: views (B, S, S, 3) uint8 to features at strides 8 and 16."""

    def __init__(self, stage8: Stage, stage16: Stage) -> None:
        super().__init__()
        self.stage8, self.stage16 = stage8, stage16

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8 to (B, 40, S/8, S/8) and (B, 112, S/16, S/16)."""
        x8 = self.stage8(views.permute(0, 3, 1, 2).float() / 255)
        return x8, self.stage16(x8)


class Lessons:
    """Arrays on disk, one row per view: bfloat16 features and the teacher's sparse dense answer."""

    def __init__(self, folder: Path, views: int, size: int, classes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)

        def array(name: str, dtype: Any, *shape: int) -> NDArray[Any]:
            path = folder / f"{name}.npy"
            if path.exists():
                return np.load(path, mmap_mode="r+")  # type: ignore[no-any-return]
            return np.lib.format.open_memmap(path, "w+", dtype, (views, *shape))

        # numpy knows no bfloat16: the bits are kept as int16. Channels last, as the convolutions want them.
        self.x8 = array("x8", np.int16, size // 8, size // 8, 40)
        self.x16 = array("x16", np.int16, size // 16, size // 16, 112)
        self.anchor = array("anchor", np.int16, ANCHORS)
        self.score = array("score", np.uint8, ANCHORS, classes)  # probability x 255
        self.box = array("box", np.float16, ANCHORS, 4)  # corners in pixels of the view

    def __len__(self) -> int:
        return len(self.anchor)

    def features(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Give the features (B, 40, S/8, S/8) and (B, 112, S/16, S/16), bfloat16, channels last in memory."""
        x8, x16 = (torch.from_numpy(a[rows]).view(torch.bfloat16).permute(0, 3, 1, 2) for a in (self.x8, self.x16))
        return x8, x16

    def answers(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Give anchors (B, A) int64, probabilities (B, A, classes) and boxes (B, A, 4) in pixels, float32."""
        anchor = torch.from_numpy(self.anchor[rows]).long()
        score = torch.from_numpy(self.score[rows]).float() / 255
        return anchor, score, torch.from_numpy(self.box[rows]).float()


def compile_teacher(path: Path, size: int, work: Path) -> ov.CompiledModel:
    """Compile an Ultralytics detector for batches of `BATCH` views at `size` pixels."""
    if path.is_dir():
        raise SystemExit(f"{path}: an exported teacher is fixed to one size; give the .pt file it was exported from")
    work.mkdir(parents=True, exist_ok=True)
    copy = Path(shutil.copy(path, work))  # the export is written beside the weights
    exported = YOLO(copy).export(format="openvino", imgsz=size, batch=BATCH, verbose=False)
    teacher = ov.Core().compile_model(next(Path(exported).glob("*.xml")), "CPU")
    anchors = sum((size // stride) ** 2 for stride in (8, 16, 32))
    if tuple(teacher.output(0).shape)[::2] != (BATCH, anchors):
        raise SystemExit(f"{path}: not a detector with {anchors} anchors (strides 8, 16, 32) and no suppression inside")
    return teacher


def _keep(lessons: Lessons, rows: slice, answer: NDArray[np.float32]) -> None:
    """Store the surest anchors of the teacher's answer (B, 4 + classes, N: centre, size, probabilities)."""
    boxes, scores = answer[:, :4].transpose(0, 2, 1), answer[:, 4:].transpose(0, 2, 1)
    best = scores.max(2)
    chosen = np.argpartition(-best, ANCHORS, axis=1)[:, :ANCHORS]
    score = np.take_along_axis(scores, chosen[..., None], 1)
    score = np.where(np.take_along_axis(best, chosen, 1)[..., None] < FAINT, 0, score)
    box = np.take_along_axis(boxes, chosen[..., None], 1)
    lessons.anchor[rows] = chosen
    lessons.score[rows] = np.rint(score * 255)
    lessons.box[rows] = np.concatenate([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def chances(lessons: Lessons, photos: int) -> NDArray[np.float64]:
    """Say how likely each photograph is drawn: up to 6 times likelier where it shows a rare class.

    Repeat-factor sampling (Gupta et al. 2019, LVIS), on what the teacher sees in the letterboxed views.
    """
    shows = np.asarray(lessons.score[:photos]).max(1) > CLEAR * 255  # (photos, classes)
    share = shows.mean(0).clip(1 / photos)
    factor = np.where(shows, np.sqrt(0.05 / share), 0).max(1).clip(0.7, 6)
    return np.asarray(factor / factor.sum(), dtype=np.float64)


def prepare(
    photos: list[Picture], teacher: Path, frozen: Frozen, classes: int, out: Path, *, views: int, size: int, seed: int
) -> Lessons:
    """Compute (or find again in `out`) the lessons of `views` views a photograph, on average."""
    digest = hashlib.sha256(b"".join(p.tobytes() for p in photos) + teacher.read_bytes())
    key = hashlib.sha256(json.dumps([digest.hexdigest(), views, size, seed]).encode()).hexdigest()[:12]
    folder, total = out / f"lessons-{key}", len(photos) * views
    lessons = Lessons(folder, total, size, classes)
    if (folder / "complete").exists():
        Console().print(f"{total} lessons found in {folder}")
        return lessons
    labeller = compile_teacher(teacher, size, out / "teacher")
    example = torch.zeros(BATCH, size, size, 3, dtype=torch.uint8)
    features = ov.compile_model(ov.convert_model(frozen.eval(), example_input=example), "CPU")
    even = np.full(len(photos), 1 / len(photos))
    for start in track(range(0, total, BATCH), "views, features, teacher", console=Console()):
        if start >= len(photos) > start - BATCH:
            even = chances(lessons, len(photos))
        rows = slice(start, min(start + BATCH, total))
        batch = np.stack([make(photos, i, even, size, seed) for i in range(start, start + BATCH)])
        x8, x16 = features(batch).values()
        answer = labeller(batch.transpose(0, 3, 1, 2).astype(np.float32) / 255)[0]
        count = rows.stop - rows.start
        for array, x in ((lessons.x8, x8), (lessons.x16, x16)):
            bits = torch.from_numpy(x[:count]).permute(0, 2, 3, 1).to(torch.bfloat16)
            array[rows] = bits.contiguous().view(torch.int16).numpy()
        _keep(lessons, rows, answer[:count])
    (folder / "complete").touch()
    return lessons
