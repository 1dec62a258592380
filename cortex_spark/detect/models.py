"""Which model labels: resolved once, on the driver, hashed, and shipped to executors with the job.

No executor downloads or installs anything. A ``.pt`` is a pickle: loading one runs its code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from cortex_spark.detect.base import Detector
from cortex_spark.errors import CortexError
from cortex_spark.local import local_folder

#: The name of the detector that comes with this package.
SHIPPED: Final = "shipped"
#: Ultralytics' current nano detector.
ULTRALYTICS_DEFAULT: Final = "yolo26n.pt"
_SHIPPED_FOLDER: Final = Path(__file__).parent / "shipped"
_DEFAULT_IMGSZ: Final = (640, 640)
#: The largest stride of these detectors: the sides of what they take are multiples of it.
STRIDE: Final = 32

Device = Literal["cpu", "cuda"]
Runtime = Literal["openvino", "ultralytics"]
Precision = Literal["f32", "bf16", "f16"]
Decoding = Literal["full", "scaled"]

#: What each runtime can compute in, its default first: docs/speed.md says what each costs in mAP.
PRECISIONS: Final[dict[Runtime, tuple[Precision, ...]]] = {
    "openvino": ("bf16", "f32"),
    "ultralytics": ("f16", "bf16", "f32"),
}


@dataclass(frozen=True)
class Model:
    """A detector's weights with everything needed to run them, and what is said of the boxes it makes."""

    name: str
    sha256: str  # of the weights as given: the .pt, the .onnx, or the OpenVINO .xml and .bin
    names: tuple[str, ...]  # class names by class id
    imgsz: tuple[int, int]  # input height and width in pixels
    runtime: Runtime
    entry: str  # the file to load
    files: Mapping[str, bytes] = field(repr=False)
    confidence: float = 0.25
    iou: float = 0.7
    max_detections: int = 300
    multi_label: bool = False  # whether a box has every class above the confidence, or its best one
    #: What the network computes in at most; a CPU without bfloat16 takes float32 for it.
    precision: Precision = "f32"
    #: Whether the network takes any size up to ``imgsz``: pictures are then padded to a multiple of ``STRIDE`` only.
    rectangular: bool = False
    decode: Decoding = "full"  # whether pictures come from a decode at full size, or from one that fits the input

    @property
    def identity(self) -> str:
        """Weights and settings, without where the file lay: the same identity makes the same labels."""
        height, width = self.imgsz
        return (
            f"{self.sha256[:16]} {width}x{height}{' rectangular' * self.rectangular} conf={self.confidence:g} "
            f"iou={self.iou:g} max={self.max_detections} {self.runtime} {self.precision} {self.decode}"
            + " multi_label"
            * self.multi_label
        )

    @property
    def annotator(self) -> dict[str, str]:
        """The entry of a sample's ``annotators``."""
        settings = {
            "confidence": self.confidence,
            "iou": self.iou,
            "max_detections": self.max_detections,
            "multi_label": self.multi_label,
            "imgsz": list(self.imgsz),
            "rectangular": self.rectangular,
            "runtime": self.runtime,
            "precision": self.precision,
            "decode": self.decode,
        }
        return {"name": self.name, "model": self.sha256, "settings": json.dumps(settings, sort_keys=True)}

    def describe(self) -> str:
        """One line for people."""
        line = f"{self.name} ({len(self.names)} classes, {self.identity})"
        if self.name == SHIPPED:
            line += ": Cortex's own small detector, for trying things out and for research; see its card"
        return line


def resolve_model(
    name: str | None = None,
    *,
    device: Device = "cpu",
    confidence: float = 0.25,
    iou: float = 0.7,
    imgsz: int | None = None,
    precision: Precision | Literal["auto"] = "auto",
    decode: Decoding = "full",
    multi_label: bool = False,
) -> Model:
    """Find ``name``: ``shipped``, a path (``.pt``, ``.onnx``, an OpenVINO folder), or a name that Ultralytics knows.

    None is Ultralytics' nano detector where that is installed, else the shipped one. PyTorch weights become an OpenVINO
    model, once, where ``device`` is ``cpu``. ``precision``: ``auto`` is the runtime's default. Raises CortexError.
    """
    if name is None:
        name = ULTRALYTICS_DEFAULT if _has_ultralytics() else SHIPPED
    model = _found(name, device, imgsz)
    known = PRECISIONS[model.runtime]
    if precision == "auto":
        # What is not quantised in an int8 network is too little for bfloat16 to be of use.
        precision = "f32" if _is_quantised(model) else known[0]
    if precision not in known:
        raise CortexError(f"--precision {precision}: {model.runtime} computes in {' or '.join(known)}")
    if decode not in get_args(Decoding):
        raise CortexError(f"decode {decode}: give {' or '.join(get_args(Decoding))}")
    return replace(model, confidence=confidence, iou=iou, multi_label=multi_label, precision=precision, decode=decode)


def _is_quantised(model: Model) -> bool:
    """Whether a network computes in int8; OpenVINO's and ONNX' graphs name the operations that do that."""
    entry = model.files[model.entry]
    return model.runtime == "openvino" and (b"FakeQuantize" in entry or b"QuantizeLinear" in entry)


def _found(name: str, device: Device, imgsz: int | None) -> Model:
    path = _SHIPPED_FOLDER if name == SHIPPED else Path(name)
    if path.is_dir():
        return _from_folder(name if name == SHIPPED else path.name, path)
    if path.suffix == ".onnx":
        return _from_onnx(path)
    if path.suffix not in ("", ".pt"):
        raise CortexError(
            f"--model {name}: give a .pt, a .onnx, an OpenVINO folder, a name that Ultralytics knows, or 'shipped'"
        )
    return _from_ultralytics(name, path, device, imgsz)


def load_detector(model: Model, *, device: str = "cpu", threads: int = 1) -> Detector:
    """The detector that runs ``model`` in this process; loaded once per process. ``device``: cpu, cuda:0, ..."""
    return _load(_Key(model), device, threads)


class _Key:
    """A model as a cache's key: by identity, its weights are not compared."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __hash__(self) -> int:
        return hash(self.model.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.model.identity == other.model.identity


@lru_cache(maxsize=2)
def _load(key: _Key, device: str, threads: int) -> Detector:
    model = key.model
    folder = _unpack(model)
    if model.runtime == "openvino":
        from cortex_spark.detect.openvino import OpenVINODetector

        return OpenVINODetector(model, folder, threads)
    from cortex_spark.detect.ultralytics import UltralyticsDetector

    return UltralyticsDetector(model, folder, device)


def _unpack(model: Model) -> Path:
    """The model's files in a folder of this machine, written by whoever comes first."""
    root = local_folder("models")
    # By what is in it: the same weights may have become a network in another way.
    folder = root / _sha256(*(part for name, body in model.files.items() for part in (name.encode(), body)))[:32]
    if not all((folder / name).exists() for name in model.files):
        shutil.rmtree(folder, ignore_errors=True)  # the system may have tidied up a part of it
        partial = Path(tempfile.mkdtemp(dir=root))
        for name, content in model.files.items():
            (partial / name).write_bytes(content)
        try:
            partial.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(partial)
    return folder


def _has_ultralytics() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("ultralytics", "torch"))


def _from_folder(name: str, folder: Path) -> Model:
    files = _network_files(folder)
    metadata = _yaml(folder / "metadata.yaml")
    entry = next(iter(files))
    return _model(name, _sha256(*files.values()), metadata, entry, files, _takes_rectangles(folder / entry))


def _from_onnx(path: Path) -> Model:
    if not path.exists():
        raise CortexError(f"--model {path}: there is no such file")
    beside = path.with_name("metadata.yaml")
    metadata = _onnx_metadata(path) or (_yaml(beside) if beside.exists() else {})
    content = path.read_bytes()
    files = {path.name: content}
    return _model(path.name, _sha256(content), metadata, path.name, files, _takes_rectangles(path))


def _takes_rectangles(path: Path) -> bool:
    """Whether a network was exported for any height and width (Ultralytics: ``dynamic=True``)."""
    import openvino as ov

    shape = ov.Core().read_model(path).inputs[0].get_partial_shape()
    return len(shape) == 4 and all(shape[axis].is_dynamic for axis in (2, 3))


def _onnx_metadata(path: Path) -> dict[str, Any]:
    """What Ultralytics' export wrote into the file: names, imgsz, task, as Python literals."""
    import openvino as ov

    network = ov.Core().read_model(path)
    if not network.has_rt_info(["framework", "names"]):
        return {}
    keys = [key for key in ("names", "imgsz", "task") if network.has_rt_info(["framework", key])]
    values = {key: str(network.get_rt_info(["framework", key]).astype(str)) for key in keys}
    return {key: value if key == "task" else ast.literal_eval(value) for key, value in values.items()}


def _model(
    name: str,
    sha256: str,
    metadata: Mapping[str, Any],
    entry: str,
    files: Mapping[str, bytes],
    rectangular: bool,
) -> Model:
    if "names" not in metadata:
        raise CortexError(
            f"--model {name}: no class names: an Ultralytics export has them inside or in metadata.yaml beside it "
            "(names: {0: person, 1: bicycle, ...} and imgsz: [640, 640])"
        )
    _check_task(name, metadata.get("task", "detect"))
    size = metadata.get("imgsz", _DEFAULT_IMGSZ)
    height, width = (size, size) if isinstance(size, int) else size
    names = _names(metadata["names"])
    return Model(name, sha256, names, (int(height), int(width)), "openvino", entry, files, rectangular=rectangular)


def _names(names: Mapping[int, str] | list[str]) -> tuple[str, ...]:
    values = [names[class_id] for class_id in sorted(names)] if isinstance(names, Mapping) else names
    return tuple(str(name) for name in values)


def _check_task(name: str, task: str) -> None:
    if task != "detect":
        raise CortexError(f"--model {name}: a model for '{task}'; Cortex labels with detection models")


def _yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CortexError(f"--model: {path} is missing; it holds the class names (Ultralytics' export writes it)")
    return dict(yaml.safe_load(path.read_text()))


def _sha256(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _from_ultralytics(name: str, path: Path, device: Device, imgsz: int | None) -> Model:
    if not _has_ultralytics():
        raise CortexError(
            f"--model {name}: PyTorch weights need Ultralytics, of the extra 'torch': pip install '.[torch]' in "
            f"Cortex's clone, or use --model {SHIPPED}"
        )
    if imgsz is not None and imgsz % STRIDE:
        raise CortexError(f"--imgsz {imgsz}: give a multiple of {STRIDE}, the largest stride of these detectors")
    yolo_class = ultralytics_yolo()
    weights = _weights(name, path)
    content = weights.read_bytes()
    sha256 = _sha256(content)
    try:
        yolo = yolo_class(weights)
    except Exception as error:  # unpickling raises whatever the file holds
        raise CortexError(f"--model {name}: not a model that Ultralytics can load: {error}") from error
    _check_task(name, str(yolo.task))
    side = imgsz or _trained_size(yolo)
    runtime: Runtime = "ultralytics" if device == "cuda" else "openvino"
    if device == "cuda":
        files, rectangular = {weights.name: content}, False  # a batch has one shape
    else:
        folder = _exported(weights, sha256, side)
        files = _network_files(folder)
        rectangular = _takes_rectangles(folder / next(iter(files)))
    entry = next(iter(files))
    return Model(weights.name, sha256, _names(yolo.names), (side, side), runtime, entry, files, rectangular=rectangular)


def _network_files(folder: Path) -> dict[str, bytes]:
    """The one network of an OpenVINO folder: its .xml first, then its .bin."""
    networks = sorted(folder.glob("*.xml"))
    if len(networks) != 1 or not networks[0].with_suffix(".bin").exists():
        raise CortexError(
            f"--model {folder}: an OpenVINO folder has one .xml and its .bin, and a metadata.yaml beside them"
        )
    return {path.name: path.read_bytes() for path in (networks[0], networks[0].with_suffix(".bin"))}


def ultralytics_yolo() -> Any:
    """Ultralytics' ``YOLO``, kept from installing packages by itself, on the driver and on executors alike."""
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ.setdefault("YOLO_VERBOSE", "false")
    from ultralytics import YOLO

    return YOLO


def _trained_size(yolo: Any) -> int:
    size = yolo.overrides.get("imgsz", _DEFAULT_IMGSZ[0])
    return int(size if isinstance(size, int) else max(size))


def _weights(name: str, path: Path) -> Path:
    """The weights as a file: a path, or a name that Ultralytics downloads into our cache, once."""
    if path.exists():
        return path
    if len(path.parts) > 1:
        raise CortexError(f"--model {name}: there is no such file")
    from ultralytics.utils.downloads import attempt_download_asset

    cached = cache_folder() / "weights" / path.with_suffix(".pt").name
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as scratch:
            partial = Path(scratch) / cached.name
            try:
                attempt_download_asset(partial)
                partial.rename(cached)  # whole, or not at all
            except Exception as error:
                raise _not_downloaded(name) from error
    return cached


def _not_downloaded(name: str) -> CortexError:
    return CortexError(
        f"--model {name}: Ultralytics could not download it (no such model, or no network); "
        f"give the path of a file, or use --model {SHIPPED}"
    )


def _exported(weights: Path, sha256: str, side: int) -> Path:
    """``weights`` as an OpenVINO folder, for any height and width; made once and kept."""
    target = cache_folder() / "openvino" / f"{sha256[:32]}-{side}-dynamic"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            copy = Path(scratch) / weights.name
            shutil.copyfile(weights, copy)
            made = Path(ultralytics_yolo()(copy).export(format="openvino", imgsz=side, dynamic=True, verbose=False))
            try:
                made.rename(target)
            except OSError:  # another process was faster
                if not target.exists():
                    raise
    return target


def cache_folder() -> Path:
    """Where downloaded and converted models are kept: ``$XDG_CACHE_HOME/cortex``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cortex"
