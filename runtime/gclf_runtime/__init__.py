"""Batched inference for small-image classifiers: one .onnx file in, one answer per picture out."""

from gclf_runtime.classifier import Classifier, FileResult, Prediction
from gclf_runtime.errors import (
    GclfError,
    ImageError,
    ModelError,
    OutputError,
    ProviderError,
    SourceError,
)
from gclf_runtime.spec import InputSpec, ModelSpec

__all__ = [
    "Classifier",
    "FileResult",
    "GclfError",
    "ImageError",
    "InputSpec",
    "ModelError",
    "ModelSpec",
    "OutputError",
    "Prediction",
    "ProviderError",
    "SourceError",
]
