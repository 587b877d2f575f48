"""Batched inference for small-image classifiers: one .onnx file in, one answer per picture out."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gclf_runtime.classifier import Classifier
    from gclf_runtime.errors import (
        GclfError,
        ImageError,
        ModelError,
        OutputError,
        ProviderError,
        SourceError,
    )
    from gclf_runtime.results import FileResult, Prediction
    from gclf_runtime.spec import InputSpec, ModelSpec

# Here because reading it from the installed package's metadata takes 8 ms of every start.
__version__ = "0.1.0"

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

_MODULES = {
    "Classifier": "classifier",
    "FileResult": "results",
    "InputSpec": "spec",
    "ModelSpec": "spec",
    "Prediction": "results",
}


def __getattr__(name: str) -> object:
    # When first asked for: numpy and Pillow are most of a start, and the command has to catch
    # Ctrl-C before them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
