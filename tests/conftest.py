"""What every test may use: the report header, the shared data, the tiny model."""

from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
DATA = ROOT / "tests" / "data"


def pytest_report_header() -> str:
    import numpy as np
    import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
    import PIL

    providers = ", ".join(ort.get_available_providers())
    torch = "torch installed" if find_spec("torch") else "no torch"
    versions = f"numpy {np.__version__}, pillow {PIL.__version__}, onnxruntime {ort.__version__}"
    return f"{versions} ({providers}), {torch}"


@pytest.fixture
def colours() -> Path:
    """Return a model for 16×16 pictures that answers red, green or blue."""
    return DATA / "colours.onnx"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared data beside the checkout, or skip the test where it is not."""
    if not SHARED.is_dir():
        pytest.skip("needs the shared data beside the checkout: ../shared")
    return SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where onnxruntime cannot start CUDA."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = _why_no_gpu() if marked else ""
    for item in marked:
        if reason:
            item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {reason}"))


def _why_no_gpu() -> str:
    from gclf_runtime import Classifier, ProviderError

    try:
        Classifier(DATA / "colours.onnx", device="cuda")
    except ProviderError as error:
        return str(error)
    return ""
