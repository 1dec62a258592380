"""Object detectors: adapters behind one small protocol, and the models that they run."""

from cortex_spark.detect.base import Detections, Detector
from cortex_spark.detect.models import Model, load_detector, resolve_model

__all__ = ["Detections", "Detector", "Model", "load_detector", "resolve_model"]
