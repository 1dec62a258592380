"""Models of every accepted form, real ones; and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from ultralytics import YOLO

from cortex_spark.detect import Detections, load_detector, resolve_model
from cortex_spark.detect.base import Image
from cortex_spark.errors import CortexError
from cortex_spark.measure import measure
from tests.measure.exif import rotated_jpeg


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted models go here, once for all tests of this module."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    return shared / "models" / "yolov8n-recon.pt"


@pytest.fixture(scope="module")
def photograph(shared: Path) -> Image:
    """One with many objects."""
    files = sorted((shared / "photos" / "images" / "val").glob("*.jpg"))
    most = max(files, key=lambda file: len((shared / "photos/labels/val" / f"{file.stem}.txt").read_text().split("\n")))
    return np.asarray(cv2.imread(str(most)), np.uint8)


@pytest.fixture(scope="module")
def reference(weights: Path, photograph: Image) -> Detections:
    """What Ultralytics itself says, in PyTorch, of the letterboxed square."""
    return theirs(weights, photograph, rect=False)


@pytest.fixture(scope="module")
def rectangle(weights: Path, photograph: Image) -> Detections:
    """The same of the photograph padded to multiples of 32 only, as Ultralytics does it by default."""
    assert photograph.shape[0] != photograph.shape[1]
    return theirs(weights, photograph, rect=True)


@pytest.fixture(scope="module")
def onnx_file(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file with Ultralytics' metadata inside, as its export writes it."""
    yolo = YOLO(weights)
    network = yolo.model.float().eval().fuse()
    for module in network.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, "onnx"
    example = torch.zeros(1, 3, 640, 640)
    network(example)
    path = tmp_path_factory.mktemp("onnx") / "yolov8n.onnx"
    torch.onnx.export(network, (example,), str(path), dynamo=False, opset_version=17, output_names=["output0"])
    graph = onnx.load(path)
    for key, value in {"names": str(yolo.names), "imgsz": "[640, 640]", "task": "detect"}.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(graph, path)
    return path


def theirs(weights: Path, photograph: Image, *, rect: bool) -> Detections:
    boxes = YOLO(weights).predict(photograph, rect=rect, verbose=False)[0].boxes
    return Detections(boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(np.int32))


def detect(name: Path | str, photograph: Image) -> Detections:
    detector = load_detector(resolve_model(str(name), precision="f32"), threads=1)
    first, second = detector.detect([detector.prepare(photograph)] * 2)
    assert np.array_equal(first.xyxy, second.xyxy)  # a picture's boxes do not depend on its neighbours
    return first


def assert_same(found: Detections, reference: Detections) -> None:
    assert len(reference) > 3
    assert found.class_id.tolist() == reference.class_id.tolist()
    np.testing.assert_allclose(found.confidence, reference.confidence, atol=0.005)
    np.testing.assert_allclose(found.xyxy, reference.xyxy, atol=1.0)


def assert_same_objects(found: Detections, expected: Detections) -> None:
    """The clear objects, each within a few pixels: resampling moves the doubtful ones over the threshold."""
    clear = expected.confidence > 0.5
    assert clear.sum() > 3
    for box, class_id in zip(expected.xyxy[clear], expected.class_id[clear], strict=True):
        same = found.xyxy[found.class_id == class_id]
        assert np.abs(same - box).max(axis=1).min() < 0.05 * (box[2:] - box[:2]).max() + 4


def test_pytorch_weights_through_openvino_find_what_ultralytics_finds(
    weights: Path, photograph: Image, rectangle: Detections
) -> None:
    assert_same(detect(weights, photograph), rectangle)
    assert resolve_model(str(weights)).runtime == "openvino"


def test_pictures_of_all_shapes_go_through_one_network_at_once(weights: Path, photograph: Image) -> None:
    shapes = [photograph, photograph.transpose(1, 0, 2), photograph[:, :320], photograph[:100]]
    model = resolve_model(str(weights), confidence=0.01, precision="f32")
    detector = load_detector(model, threads=2)
    prepared = [detector.prepare(np.ascontiguousarray(shape)) for shape in shapes]
    assert len({one.tensor.shape for one in prepared}) == len(shapes)
    for one in prepared:
        height, width = one.tensor.shape[:2]
        assert max(height, width) == 640
        assert height % 32 == width % 32 == 0
    together = detector.detect(prepared * 3)
    for number, one in enumerate(prepared):
        (alone,) = detector.detect([one])
        assert len(alone) > 0
        for found in together[number :: len(shapes)]:
            assert np.array_equal(found.xyxy, alone.xyxy)


def test_a_network_of_one_size_gets_squares(weights: Path, shared: Path, onnx_file: Path, photograph: Image) -> None:
    static = resolve_model(str(shared / "models" / "yolo11n_int8_openvino_model"))
    assert not static.rectangular
    assert not resolve_model(str(onnx_file)).rectangular
    assert load_detector(static).prepare(photograph).tensor.shape == (640, 640, 3)
    assert resolve_model(str(weights)).rectangular
    assert not resolve_model(str(weights), device="cuda").rectangular  # a batch has one shape


def test_ultralytics_current_detector_which_suppresses_by_itself(tmp_path: Path, photograph: Image) -> None:
    """The default model's own architecture, with weights that nobody has trained: they find something everywhere."""
    torch.manual_seed(1)
    YOLO("yolo26n.yaml", verbose=False).save(tmp_path / "untrained.pt")
    model = resolve_model(str(tmp_path / "untrained.pt"), confidence=1e-6, precision="f32")
    detector = load_detector(model)
    (found,) = detector.detect([detector.prepare(photograph)])
    expected = YOLO(tmp_path / "untrained.pt").predict(photograph, conf=1e-6, verbose=False)[0].boxes
    assert 0 < len(found) == len(expected)
    np.testing.assert_allclose(found.confidence, expected.conf.numpy(), atol=1e-3)


def test_onnx_finds_what_ultralytics_finds(onnx_file: Path, photograph: Image, reference: Detections) -> None:
    assert_same(detect(onnx_file, photograph), reference)
    assert resolve_model(str(onnx_file)).names[:2] == ("person", "bicycle")


def test_gpu_path_has_the_same_shape_on_a_cpu(weights: Path, photograph: Image, reference: Detections) -> None:
    assert resolve_model(str(weights), device="cuda").precision == "f16"
    model = resolve_model(str(weights), device="cuda", precision="f32")
    assert (model.runtime, model.entry) == ("ultralytics", weights.name)
    detector = load_detector(model, device="cpu")
    for found in detector.detect([detector.prepare(photograph)] * 2):
        assert_same(found, reference)


def test_confidence_is_part_of_the_identity(weights: Path, photograph: Image, reference: Detections) -> None:
    low, high = resolve_model(str(weights)), resolve_model(str(weights), confidence=0.5)
    assert low.sha256 == high.sha256
    assert low.identity != high.identity
    detector = load_detector(high)
    (found,) = detector.detect([detector.prepare(photograph)])
    assert len(found) == int((reference.confidence > 0.5).sum()) < len(reference)


def test_what_changes_labels_changes_the_identity(weights: Path) -> None:
    models = [
        resolve_model(str(weights), precision="f32"),
        resolve_model(str(weights), precision="bf16"),
        resolve_model(str(weights), precision="f32", decode="scaled"),
        resolve_model(str(weights), precision="f32", multi_label=True),
        resolve_model(str(weights), precision="f32", device="cuda"),
    ]
    assert len({model.identity for model in models}) == len(models)
    assert len({model.annotator["settings"] for model in models}) == len(models)


def test_precision_is_the_fastest_that_helps(weights: Path, shared: Path) -> None:
    assert resolve_model(str(weights)).precision == "bf16"
    assert resolve_model(str(shared / "models" / "yolo11n_int8_openvino_model")).precision == "f32"
    assert resolve_model(str(weights), device="cuda").precision == "f16"
    with pytest.raises(CortexError, match=r"openvino computes in bf16 or f32"):
        resolve_model("shipped", precision="f16")


def test_a_box_may_have_several_classes(weights: Path, photograph: Image) -> None:
    one, several = (
        load_detector(resolve_model(str(weights), confidence=0.01, precision="f32", multi_label=multi))
        for multi in (False, True)
    )
    best, every = one.detect([one.prepare(photograph)])[0], several.detect([several.prepare(photograph)])[0]
    assert len({tuple(box) for box in best.xyxy}) == len(best)
    assert len({tuple(box) for box in every.xyxy}) < len(every)


def test_a_smaller_decode_gives_boxes_in_the_pictures_pixels(weights: Path, photograph: Image) -> None:
    large = np.asarray(cv2.resize(photograph, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)
    detector = load_detector(resolve_model(str(weights), precision="f32"))
    height, width = large.shape[:2]
    small, full = detector.prepare(photograph, (width, height)), detector.prepare(large)
    assert small.tensor.shape == full.tensor.shape
    assert (small.scale, small.pad, small.size) == (full.scale, full.pad, full.size)
    seen, expected = detector.detect([small, full])
    assert_same_objects(seen, expected)


@pytest.mark.parametrize(("orientation", "quarters"), [(3, 2), (6, 1), (8, 3)])
def test_boxes_lie_in_the_picture_as_it_is_looked_at(
    weights: Path, photograph: Image, rectangle: Detections, orientation: int, quarters: int
) -> None:
    stored = np.ascontiguousarray(np.rot90(photograph, quarters))
    picture = measure(rotated_jpeg(stored, orientation), max_pixels=stored.size)
    assert (picture.height, picture.width) == photograph.shape[:2]
    assert_same_objects(detect(weights, picture.image), rectangle)


def test_boxes_are_whole_pixels_inside_the_picture() -> None:
    found = Detections(
        np.array([[-3.2, 1.5, 99.6, 300.0]], np.float32), np.array([0.123456], np.float32), np.array([1], np.int32)
    )
    (box,) = found.boxes(["cat", "dog"], 100, 200)
    assert box == {"x1": 0, "y1": 2, "x2": 100, "y2": 200, "classname": "dog", "confidence": 0.1235}
    assert Detections.empty().boxes(["cat"], 10, 10) == []


def test_shipped_is_named_for_what_it_is() -> None:
    model = resolve_model("shipped")
    assert "for trying things out" in model.describe()
    assert len(model.names) == 80


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/model.pt", "no such file"),
        ("no/such/model.onnx", "no such file"),
        ("model.h5", r"give a \.pt, a \.onnx, an OpenVINO folder"),
        ("no-such-model-anywhere.pt", "could not download"),
    ],
)
def test_what_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(CortexError, match=message):
        resolve_model(name)


def test_what_is_no_detector_is_refused(shared: Path, tmp_path: Path) -> None:
    models = shared / "models"
    with pytest.raises(CortexError, match="for 'pose'"):
        resolve_model(str(models / "yolov8n-pose_int8_openvino_model"))
    with pytest.raises(CortexError, match=r"one \.xml and its \.bin"):
        resolve_model(str(tmp_path))
    with pytest.raises(CortexError, match="no class names"):
        resolve_model(str(models / "yolox_nano.onnx"))
    (tmp_path / "broken.pt").write_bytes(b"not a model")
    with pytest.raises(CortexError, match="not a model that Ultralytics can load"):
        resolve_model(str(tmp_path / "broken.pt"))
    # With names it is taken, and then its output is not one that this adapter reads.
    shutil.copy(models / "yolox_nano.onnx", tmp_path)
    (tmp_path / "metadata.yaml").write_text("imgsz: [416, 416]\nnames: {0: person, 1: bicycle}\n")
    with pytest.raises(CortexError, match="is neither"):
        load_detector(resolve_model(str(tmp_path / "yolox_nano.onnx")))
