"""Pure functions between a picture and a detector's input and output."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from cortex_spark.detect.base import Detections, Image, Prepared

_GREY = (114, 114, 114)
#: Candidates that suppression looks at; a low confidence floor lets thousands through.
_MAX_CANDIDATES = 30_000


def letterbox(
    image: Image, height: int, width: int, size: tuple[int, int] | None = None, *, stride: int | None = None
) -> Prepared:
    """Scale a BGR ``image`` of shape (h, w, 3) to fit (height, width) and pad it with grey, centred.

    The same rounding as Ultralytics' ``LetterBox``, so that the same weights give the same boxes. ``size`` is the
    picture's width and height where ``image`` is a smaller decode of it. With a ``stride``, the padding ends at the
    next multiple of it: a photograph of 4:3 becomes 640 x 480, not 640 x 640.
    """
    w, h = size or (image.shape[1], image.shape[0])
    scale = min(height / h, width / w)
    new_w, new_h = max(round(w * scale), 1), max(round(h * scale), 1)
    if stride is not None:
        width, height = (-(-side // stride) * stride for side in (new_w, new_h))
    if (new_w, new_h) != (image.shape[1], image.shape[0]):
        image = np.asarray(cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR), np.uint8)
    dw, dh = (width - new_w) / 2, (height - new_h) / 2
    left, top = round(dw - 0.1), round(dh - 0.1)
    padded = cv2.copyMakeBorder(
        image, top, height - new_h - top, left, width - new_w - left, cv2.BORDER_CONSTANT, value=_GREY
    )
    return Prepared(np.asarray(padded, np.uint8), scale, (left, top), (w, h))


def decode_yolo(
    output: npt.NDArray[np.float32],
    prepared: Prepared,
    *,
    confidence: float,
    iou: float,
    max_detections: int,
    multi_label: bool = False,
) -> Detections:
    """Detections from one picture's raw YOLO output of shape (4 + classes, anchors): cx, cy, w, h, scores.

    A box has its best class only, or with ``multi_label`` every class above the confidence.
    """
    scores = output[4:]
    if multi_label:
        class_id, keep = np.nonzero(scores > confidence)
    else:
        keep = np.flatnonzero(scores.max(axis=0) > confidence)
        class_id = scores[:, keep].argmax(axis=0)
    return suppress(
        output[:4, keep].T,
        scores[class_id, keep],
        class_id.astype(np.int32),
        prepared,
        iou=iou,
        max_detections=max_detections,
    )


def decode_end_to_end(
    output: npt.NDArray[np.float32], prepared: Prepared, *, confidence: float, max_detections: int
) -> Detections:
    """Detections from an output of shape (N, 6) that is suppressed already: x1, y1, x2, y2, score, class."""
    output = output[output[:, 4] > confidence]
    return in_picture(output[:, :4], output[:, 4], output[:, 5].astype(np.int32), prepared, max_detections)


def suppress(
    boxes: npt.NDArray[np.float32],
    score: npt.NDArray[np.float32],
    class_id: npt.NDArray[np.int32],
    prepared: Prepared,
    *,
    iou: float,
    max_detections: int,
) -> Detections:
    """Of candidates (N, 4) cx, cy, w, h in the detector's input, those that no better one of their class overlaps."""
    if len(boxes) == 0:
        return Detections.empty()
    order = np.argsort(-score, kind="stable")[:_MAX_CANDIDATES]
    boxes, score, class_id = boxes[order], score[order], class_id[order]
    xywh = np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]])
    chosen = cv2.dnn.NMSBoxesBatched(xywh.tolist(), score.tolist(), class_id.tolist(), 0.0, iou)
    keep = np.sort(np.asarray(chosen, np.int64).ravel())[:max_detections]
    xyxy = xywh[keep]
    xyxy[:, 2:] += xyxy[:, :2]
    return in_picture(xyxy, score[keep], class_id[keep], prepared, max_detections)


def in_picture(
    xyxy: npt.NDArray[np.float32],
    score: npt.NDArray[np.float32],
    class_id: npt.NDArray[np.int32],
    prepared: Prepared,
    max_detections: int,
) -> Detections:
    """The most confident of boxes in the detector's input, in pixels of the original picture."""
    order = np.argsort(-score, kind="stable")[:max_detections]
    return Detections(to_picture(xyxy[order], prepared), score[order].astype(np.float32), class_id[order])


def to_picture(xyxy: npt.NDArray[np.float32], prepared: Prepared) -> npt.NDArray[np.float32]:
    """Corners (N, 4) in the detector's input to corners in the original picture, cut at its edges."""
    left, top = prepared.pad
    width, height = prepared.size
    moved = (xyxy - np.array([left, top, left, top])) / prepared.scale
    return np.asarray(np.clip(moved, 0, np.array([width, height, width, height])), np.float32)
