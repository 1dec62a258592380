"""The shipped detector is what its card says."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
import yaml

from cortex_spark import detect
from cortex_spark.detect import load_detector, resolve_model

SHIPPED = Path(detect.__file__).parent / "shipped"
CARD = (SHIPPED / "CARD.md").read_text()


def figure(label: str) -> str:
    """The second cell of the card's table row that starts with `label`."""
    found = re.search(rf"^\| {re.escape(label)} \| ([^|]+?) \|", CARD, re.MULTILINE)
    assert found, f"the card has no row '{label}'"
    return found[1]


def test_fits_in_ten_megabytes() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 10_000_000


def test_card_names_these_weights() -> None:
    assert figure("sha256 of model.bin").strip("`") == hashlib.sha256((SHIPPED / "model.bin").read_bytes()).hexdigest()


def test_metadata_describes_the_network() -> None:
    metadata = yaml.safe_load((SHIPPED / "metadata.yaml").read_text())
    network = ov.Core().read_model(SHIPPED / "model.xml")
    height, width = metadata["imgsz"]
    anchors = sum((height // stride) * (width // stride) for stride in (8, 16, 32))
    assert metadata["task"] == "detect"
    assert metadata["stride"] == 32
    assert sorted(metadata["names"]) == list(range(80))
    assert metadata["names"][0] == "person"
    assert metadata["names"][79] == "toothbrush"
    assert list(network.input(0).shape) == [1, 3, height, width]
    assert list(network.output(0).shape) == [1, 4 + 80, anchors]


def test_resolves_by_name() -> None:
    model = resolve_model("shipped")
    assert model.name == "shipped"
    assert len(model.names) == 80
    assert "trying things out" in model.describe()


@pytest.mark.parametrize(("metric", "column"), [("mAP50-95", slice(None)), ("mAP50", 0)])
def test_validation_gives_the_cards_figures(average_precision: np.ndarray, metric: str, column: slice | int) -> None:
    assert average_precision[:, column].mean() == pytest.approx(float(figure(f"{metric}, own adapter")), abs=0.02)


@pytest.fixture(scope="module")
def average_precision(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """AP of the classes that occur, at IoU 0.5 to 0.95 (classes, 10), of our adapter on photographs not trained on.

    Matching and integration are Ultralytics'; letterbox, decoding, suppression and scaling back are ours.
    """
    pytest.importorskip("ultralytics", reason="the mAP is computed with Ultralytics' functions (extra: torch)")
    import torch
    from ultralytics.models.yolo.detect import DetectionValidator
    from ultralytics.utils.metrics import ap_per_class, box_iou

    detector = load_detector(replace(resolve_model("shipped"), confidence=0.001))
    matcher = DetectionValidator(save_dir=tmp_path_factory.mktemp("validation"))
    hits, confidences, found, wanted = [], [], [], []
    for path in sorted((shared / "photos" / "images" / "val").glob("*.jpg")):
        picture = np.asarray(cv2.imread(str(path)), np.uint8)
        height, width = picture.shape[:2]
        label = path.parents[2] / "labels" / "val" / f"{path.stem}.txt"
        truth = np.loadtxt(label, ndmin=2).reshape(-1, 5)
        centre, half = truth[:, 1:3] * (width, height), truth[:, 3:] * (width, height) / 2
        corners = torch.from_numpy(np.hstack([centre - half, centre + half])).float()
        (detections,) = detector.detect([detector.prepare(picture)])
        iou = box_iou(corners, torch.from_numpy(detections.xyxy))
        classes = torch.from_numpy(detections.class_id).long()
        hits.append(matcher.match_predictions(classes, torch.from_numpy(truth[:, 0]).long(), iou).numpy())
        confidences.append(detections.confidence)
        found.append(detections.class_id)
        wanted.append(truth[:, 0])
    assert len(hits) == 96
    curves = ap_per_class(*(np.concatenate(part) for part in (hits, confidences, found, wanted)))
    return np.asarray(curves[5])
