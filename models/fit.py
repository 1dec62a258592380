"""Fit the student's neck, head and last stage to the lessons."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lessons import Lessons
from network import layers, neck_and_head, stages
from rich.console import Console
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import DFLoss
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import bbox2dist, dist2bbox, make_anchors

BATCH = 32
RATE, LATE_RATE, DECAY = 0.003, 0.0006, 0.02  # AdamW: neck and head, last stage of the backbone, weight decay
WARM_UP = 300  # steps
AVERAGE = 0.998  # of the weights, per step
BOX, CLASS, DFL = 7.5, 0.5, 1.5  # Ultralytics' gains
SEEN = 0.05  # the teacher's probability from which its box is learnt


def loss_of(output: dict[str, Tensor], model: DetectionModel, answers: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Compare the head's raw output with the teacher's dense answer.

    Cross entropy with the teacher's probabilities on all anchors and classes; complete IoU and distribution focal loss,
    weighted by the teacher's best probability, where it sees something. All are divided by the sum of those weights.
    """
    head = layers(model)[-1]
    anchor, score, box = answers
    logits = output["scores"].float().transpose(1, 2)  # (B, N, classes)
    target = torch.zeros_like(logits).scatter_(1, anchor[..., None].expand_as(score), score)
    weight = score.amax(2)
    total = weight.sum().clamp(min=1)
    loss: Tensor = CLASS * F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / total

    picture, place = (weight > SEEN).nonzero(as_tuple=True)
    cell = anchor[picture, place]
    points, strides = make_anchors(output["feats"], head.stride, 0.5)
    spread = output["boxes"].transpose(1, 2)[picture, cell].float().view(-1, 4, head.reg_max)
    bins = torch.arange(head.reg_max, dtype=torch.float32, device=spread.device)
    found = dist2bbox(spread.softmax(2) @ bins, points[cell], xywh=False)
    wanted = box[picture, place] / strides[cell]
    share = weight[picture, place, None] / total
    loss = loss + BOX * ((1 - bbox_iou(found, wanted, xywh=False, CIoU=True)) * share).sum()
    sides = bbox2dist(points[cell], wanted, head.reg_max - 1)
    loss += DFL * (DFLoss(head.reg_max)(spread.reshape(-1, head.reg_max), sides) * share).sum()
    return loss


def unfreeze(model: DetectionModel) -> list[nn.Parameter]:
    """Freeze the backbone but for its last stage's pointwise convolutions; give the parameters of those.

    Depthwise filters stay as they are: their gradient costs a CPU more than all the rest of the step together. So does
    the expansion in front of the stage's strided depthwise convolution, since its gradient would pass through that.
    """
    for stage in stages(model):
        stage.requires_grad_(False)
    blocks: Any = stages(model)[2].blocks
    pointwise = [block._project_conv for block in blocks] + [block._expand_conv for block in list(blocks)[1:]]
    return [parameter.requires_grad_() for conv in pointwise for parameter in conv.parameters()]


def fit(
    model: DetectionModel, lessons: Lessons, epochs: int, seed: int, device: torch.device
) -> Iterator[DetectionModel]:
    """Train for `epochs` passes over the lessons; after each give the model with the averaged weights."""
    console = Console()
    model.to(device).to(memory_format=torch.channels_last).train()
    late = unfreeze(model)
    mine = [p for layer in layers(model)[1:] for p in layer.parameters() if p.requires_grad]
    groups = [{"params": mine, "lr": RATE}, {"params": late, "lr": LATE_RATE}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=DECAY)
    steps = epochs * (len(lessons) // BATCH)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    average = copy.deepcopy(model)
    rng, step, began, running = np.random.default_rng(seed), 0, time.monotonic(), 0.0
    for epoch in range(epochs):
        order = rng.permutation(len(lessons))[: len(lessons) // BATCH * BATCH].reshape(-1, BATCH)
        for rows in order:
            rows = np.sort(rows)
            x8, x16 = (x.to(device) for x in lessons.features(rows))
            anchor, score, box = (a.to(device) for a in lessons.answers(rows))
            with torch.autocast(device.type, torch.bfloat16):
                output = neck_and_head(model, [x8, x16, stages(model)[2](x16)])
            loss = loss_of(output, model, (anchor, score, box))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*mine, *late], 10.0)
            optimizer.step()
            schedule.step()
            step += 1
            keep = min(AVERAGE, step / (step + 10))
            with torch.no_grad():
                for a, b in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                    if a.dtype.is_floating_point:
                        a.lerp_(b, 1 - keep)
            running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
            if step % 50 == 0:
                pace = (time.monotonic() - began) / step
                left = pace * (steps - step) / 60
                console.print(f"epoch {epoch + 1}, step {step}/{steps}: loss {running:.3f}, {left:.0f} min left")
        yield copy.deepcopy(average).eval()
