"""Pure functions between a picture and a detector's input and output."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from cortex_spark.detect.base import Detections, Image, Prepared

_GREY = (114, 114, 114)
#: Candidates that suppression looks at; a low confidence floor lets thousands through.
_MAX_CANDIDATES = 30_000


def letterbox(image: Image, height: int, width: int) -> Prepared:
    """Scale a BGR ``image`` of shape (h, w, 3) to fit (height, width) and pad it with grey, centred.

    The same rounding as Ultralytics' ``LetterBox``, so that the same weights give the same boxes.
    """
    h, w = image.shape[:2]
    scale = min(height / h, width / w)
    new_w, new_h = max(round(w * scale), 1), max(round(h * scale), 1)
    if (new_w, new_h) != (w, h):
        image = np.asarray(cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR), np.uint8)
    dw, dh = (width - new_w) / 2, (height - new_h) / 2
    left, top = round(dw - 0.1), round(dh - 0.1)
    padded = cv2.copyMakeBorder(
        image, top, height - new_h - top, left, width - new_w - left, cv2.BORDER_CONSTANT, value=_GREY
    )
    return Prepared(np.asarray(padded, np.uint8), scale, (left, top), (w, h))


def decode_yolo(
    output: npt.NDArray[np.float32], prepared: Prepared, *, confidence: float, iou: float, max_detections: int
) -> Detections:
    """Detections from one picture's raw YOLO output of shape (4 + classes, anchors): cx, cy, w, h, scores.

    Suppression is per class; the boxes are in pixels of the original picture.
    """
    scores = output[4:]
    best = scores.max(axis=0)
    keep = np.flatnonzero(best > confidence)
    if len(keep) == 0:
        return Detections.empty()
    if len(keep) > _MAX_CANDIDATES:
        keep = keep[np.argsort(-best[keep], kind="stable")[:_MAX_CANDIDATES]]
    class_id = scores[:, keep].argmax(axis=0).astype(np.int32)
    cx, cy, w, h = output[:4, keep]
    xywh = np.stack([cx - w / 2, cy - h / 2, w, h], axis=1)
    chosen = cv2.dnn.NMSBoxesBatched(xywh.tolist(), best[keep].tolist(), class_id.tolist(), confidence, iou)
    order = np.asarray(chosen, np.int64).ravel()
    order = order[np.argsort(-best[keep][order], kind="stable")][:max_detections]
    xyxy = xywh[order]
    xyxy[:, 2:] += xyxy[:, :2]
    return Detections(to_picture(xyxy, prepared), best[keep][order].astype(np.float32), class_id[order])


def decode_end_to_end(
    output: npt.NDArray[np.float32], prepared: Prepared, *, confidence: float, max_detections: int
) -> Detections:
    """Detections from an output of shape (N, 6) that is suppressed already: x1, y1, x2, y2, score, class."""
    output = output[output[:, 4] > confidence]
    output = output[np.argsort(-output[:, 4], kind="stable")][:max_detections]
    return Detections(
        to_picture(output[:, :4], prepared), output[:, 4].astype(np.float32), output[:, 5].astype(np.int32)
    )


def to_picture(xyxy: npt.NDArray[np.float32], prepared: Prepared) -> npt.NDArray[np.float32]:
    """Corners (N, 4) in the detector's input to corners in the original picture, cut at its edges."""
    left, top = prepared.pad
    width, height = prepared.size
    moved = (xyxy - np.array([left, top, left, top])) / prepared.scale
    return np.asarray(np.clip(moved, 0, np.array([width, height, width, height])), np.float32)
