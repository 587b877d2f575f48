import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any, cast

import numpy as np
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest

from gclf_runtime import Classifier, InputSpec, ModelError, ModelSpec, ProviderError
from gclf_runtime.cpus import available_cpus
from gclf_runtime.session import OnnxSession

PROVIDERS = cast("list[str]", ort.get_available_providers())  # pyright: ignore[reportUnknownMemberType]
HAS_CUDA_BUILD = "CUDAExecutionProvider" in PROVIDERS


def without_spec(model: Path, folder: Path) -> Path:
    """Copy a model with the keys of its spec and digest changed: every length stays right."""
    path = folder / "plain.onnx"
    content = model.read_bytes().replace(b"gclf.spec", b"gclf.spoc")
    path.write_bytes(content.replace(b"gclf.digest", b"gclf.digost"))
    return path


@pytest.mark.parametrize("content", [b"", b"text", bytes(100), b"\xff\xd8\xff\xe0"], ids=repr)
def test_a_file_that_is_no_model_says_to_export_again(tmp_path: Path, content: bytes):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=r"model\.onnx is not a model .* gclf-export"):
        Classifier(path)


def test_a_cut_model_is_refused(colours: Path, tmp_path: Path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(colours.read_bytes()[:-200])

    with pytest.raises(ModelError):
        Classifier(path)


@pytest.mark.parametrize("name", ["absent.onnx", "."])
def test_an_absent_model_says_how_to_make_one(tmp_path: Path, name: str):
    with pytest.raises(ModelError, match=r"no model at .* gclf-export RUN/model.pt --output"):
        Classifier(tmp_path / name)


def test_a_model_without_a_spec_needs_one_from_the_caller(colours: Path, tmp_path: Path):
    plain = without_spec(colours, tmp_path)
    spec = ModelSpec(label_names=("a", "b", "c"), input=InputSpec(height=16, width=16))

    with pytest.raises(ModelError, match=r"carries no gclf\.spec.* spec=ModelSpec"):
        Classifier(plain)
    assert Classifier(plain, spec=spec).spec == spec


@pytest.mark.parametrize(
    "changes",
    [{"label_names": ("a", "b")}, {"input": InputSpec(height=32, width=16)}],
    ids=["classes", "size"],
)
def test_a_graph_at_odds_with_its_spec_is_refused(colours: Path, changes: dict[str, Any]):
    right: dict[str, Any] = {
        "label_names": ("a", "b", "c"),
        "input": InputSpec(height=16, width=16),
    }

    with pytest.raises(ModelError, match="breaks the contract"):
        Classifier(colours, spec=ModelSpec(**{**right, **changes}))


@pytest.mark.skipif(HAS_CUDA_BUILD, reason="this build of onnxruntime has CUDA")
def test_cuda_on_the_cpu_build_names_the_other_build(colours: Path):
    with pytest.raises(ProviderError, match=r"no CUDA\. Install the other build: .*--device cpu"):
        Classifier(colours, device="cuda")


@pytest.mark.skipif(HAS_CUDA_BUILD, reason="this build of onnxruntime has CUDA")
def test_auto_takes_the_cpu_where_there_is_no_cuda(colours: Path):
    assert Classifier(colours, device="auto").provider == "CPUExecutionProvider"


@pytest.mark.gpu
def test_cuda_means_cuda(colours: Path):
    assert Classifier(colours, device="cuda").provider == "CUDAExecutionProvider"
    assert Classifier(colours, device="auto").provider == "CUDAExecutionProvider"
    assert Classifier(colours, device="cpu").provider == "CPUExecutionProvider"


def test_an_unknown_device_is_a_wrong_argument(colours: Path):
    device: Any = "tpu"

    with pytest.raises(ValueError, match="device must be auto, cpu or cuda, got 'tpu'"):
        Classifier(colours, device=device)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity mask here")
def test_cpus_are_those_this_process_may_use():
    mask = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mask)})
        assert available_cpus() == 1
    finally:
        os.sched_setaffinity(0, mask)
    assert 1 <= available_cpus() <= len(mask)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("call", ["predict(pixels)", "predict_images(pixels)"])
@pytest.mark.parametrize("leave", ["os._exit(code)", "sys.exit(code)"])
def test_a_forked_child_gets_an_error_and_leaves_at_once(colours: Path, leave: str, call: str):
    """Destroying an inherited session hangs: the child must neither use nor destroy it."""
    program = f"""
import os, sys, warnings
import numpy as np
from gclf_runtime import Classifier, ProviderError
warnings.simplefilter("ignore")
pixels = np.zeros((1, 16, 16, 3), np.uint8)
classifier = Classifier({str(colours)!r}, device="cpu")
classifier.predict(pixels)
child = os.fork()
if child == 0:
    try:
        classifier.{call}
        code = 7
    except ProviderError as error:
        code = 5 if "before this process was forked" in str(error) else 6
    {leave}
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert run.stdout.split() == ["5"]


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM on this system")
def test_what_a_signals_handler_raises_is_not_said_to_be_the_models_fault(colours: Path):
    class TimeLimitError(Exception):
        """What an application raises when a request takes too long."""

    def ring(*_: object) -> None:
        raise TimeLimitError

    def run_until_it_rings() -> None:
        signal.setitimer(signal.ITIMER_REAL, delays.uniform(1e-4, 1e-3))
        while True:
            session.run(pixels)

    session, delays = OnnxSession(colours, device="cpu"), Random(0)
    pixels = np.zeros((64, 16, 16, 3), np.uint8)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for _ in range(300):
            with pytest.raises(TimeLimitError):
                run_until_it_rings()
    finally:
        signal.signal(signal.SIGALRM, before)
