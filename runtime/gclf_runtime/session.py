"""The only module that imports onnxruntime: model file to running session.

Axes: n batch, h height, w width, c channels (RGB), k classes.
"""

import contextlib
import ctypes
import hashlib
import io
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gclf_runtime.cpus import available_cpus
from gclf_runtime.device import DeviceRunner
from gclf_runtime.errors import ModelError, ProviderError
from gclf_runtime.model_file import read_model
from gclf_runtime.spec import SPEC_KEY, ModelSpec
from gclf_runtime.turnstile import Turnstile

Device = Literal["auto", "cpu", "cuda"]

MAX_MODEL_BYTES = 2**31  # protobuf's own limit on one message
_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_ORT_WARNING, _ORT_FATAL = 2, 4
_CPU_BATCH = 16  # 8 to 32 stay in cache; a chunk of 16 photos is a sixteenth of a second
_LESS = "Free some memory, or take less of it: --threads 1 --batch-size 1"
_OUTPUTS = ["probabilities", "logits"]


class Session(Protocol):
    """What the rest of the runtime needs from a loaded model."""

    @property
    def spec(self) -> ModelSpec:
        """What the model promises."""
        ...

    @property
    def provider(self) -> str:
        """Name of the execution provider that really started."""
        ...

    @property
    def batch_size(self) -> int:
        """How many pictures per run suit the device."""
        ...

    def run(
        self, pixels_nhwc: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return probabilities and logits, both float32 (N, K); N is at least 1."""
        ...


class OnnxSession:
    """A loaded model, checked against its spec; calls may come from any thread.

    Each call computes on one thread on the CPU: callers that share a session and bring a thread
    each were never slower than one caller with several compute threads, and far faster on a busy
    machine.

    Args:
        model: The .onnx file.
        device: `cuda` means CUDA or a ProviderError, `auto` takes CUDA when it starts.
        spec: Used in place of the file's own, or of none. The graph must still be the contract's.
        sha256: What the whole file's must be, in hexadecimal; any when None.
        batch_size: Pictures per run; what suits the device when None.

    Raises:
        ModelError: No such file, damaged, changed, without a spec, or at odds with it.
        ProviderError: onnxruntime or the device asked for cannot start.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: Device = "auto",
        spec: ModelSpec | None = None,
        sha256: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._name = os.fspath(model)
        data = _read_file(Path(model))
        self.sha256: str = hashlib.sha256(data).hexdigest()
        _check_sha256(self.sha256, sha256, self._name)
        self.metadata: Mapping[str, str] = read_model(data, self._name).metadata
        ort = import_onnxruntime()
        self._session = _open(ort, data, self._name, device)
        self.onnxruntime_version: str = ort.__version__
        self.provider: str = self._session.get_providers()[0]
        self.spec: ModelSpec = spec or _spec_of(self.metadata, self._name)
        _check_graph(self._session, self.spec, self._name)
        self._batch_size = batch_size or _CPU_BATCH
        self._runner: DeviceRunner | None = None
        if self.provider == _CUDA:
            self._runner = self._device_runner(ort, batch_size)
        # More callers than CPUs, each held up by all others, would starve some for long: on two
        # CPUs, p99 of 16 callers was 22 ms in place of 9, that of 64 was 67 in place of 34.
        self._turnstile = Turnstile(max(2, available_cpus()))
        self._process = os.getpid()
        _open_sessions.add(self)

    def _device_runner(self, ort: Any, batch_size: int | None) -> DeviceRunner:
        size_hw = (self.spec.input.height, self.spec.input.width)
        try:
            return DeviceRunner(
                ort, self._session, size_hw=size_hw, outputs=_OUTPUTS, batch_size=batch_size
            )
        except ModelError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())
            raise ProviderError(
                f"CUDA started and failed at its first run ({text[:300]}). "
                "Check nvidia-smi, or pass --device cpu"
            ) from error

    @property
    def batch_size(self) -> int:
        """How many pictures per run suit the device; halved when its memory ends."""
        return self._runner.batch_size if self._runner else self._batch_size

    def check_process(self) -> None:
        """Raise a ProviderError in a forked child, where locks and sessions are of no use."""
        if os.getpid() != self._process:
            raise ProviderError(
                f"{self._name} was opened before this process was forked, and does not work here. "
                "Open a Classifier in each process, after the fork"
            )

    def run(
        self, pixels_nhwc: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return probabilities and logits, both float32 (N, K); N is at least 1.

        Raises:
            ModelError: The graph failed, or its answer is not finite.
            ProviderError: The session was opened in the process that this one was forked from.
        """
        self.check_process()
        try:
            if self._runner:
                probabilities_nk, logits_nk = self._runner.run(pixels_nhwc)
            else:
                with self._turnstile:
                    probabilities_nk, logits_nk = self._session.run(
                        _OUTPUTS, {"images": pixels_nhwc}
                    )
        except ModelError:
            raise
        except Exception as error:
            if not _is_of_onnxruntime(error):  # what a signal's handler raised
                raise
            text = " ".join(str(error).split())
            other = "Try --device cpu, or export it again: gclf-export RUN/model.pt"
            remedy = _LESS if _is_no_memory(text) else other
            raise ModelError(
                f"{self._name} failed on a batch of {len(pixels_nhwc)} ({text[:300]}). {remedy}"
            ) from error
        if not np.isfinite(probabilities_nk).all():
            raise ModelError(
                f"{self._name} answers with numbers that are not finite. "
                "Train it again with a lower --learning-rate, and export that"
            )
        return probabilities_nk, logits_nk


_open_sessions: "weakref.WeakSet[OnnxSession]" = weakref.WeakSet()


def _keep_forever() -> None:
    """In a forked child: give each session one reference more, for its destructor would hang."""
    for opened in list(_open_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(opened._session))  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_forever)


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise ModelError(
            f"no model at {path}. Export one: gclf-export RUN/model.pt --output {path}"
        )
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ModelError(
                f"{path} is over {MAX_MODEL_BYTES} bytes, which no .onnx file is. "
                "Name the file that gclf-export wrote"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}). Check its rights") from error


def _check_sha256(found: str, wanted: str | None, name: str) -> None:
    if wanted is not None and found != wanted.lower():
        raise ModelError(
            f"{name} is not the file asked for: its sha256 is {found}, {wanted!r} was given. "
            "Copy it again, or give the sha256 of this file if you trust it"
        )


def import_onnxruntime() -> ModuleType:
    """Import it, silent and whole, or raise a ProviderError."""
    # onnxruntime keeps a device id and a queue of events for its maker, unless told before.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise ProviderError(
            f"onnxruntime cannot be imported ({error}). Install one build: "
            "pip install 'gclf-runtime[cpu]' or pip install 'gclf-runtime[gpu]'"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise ProviderError(
            "onnxruntime is broken: both of its builds were installed, or one was half removed. "
            "Repair it: pip uninstall onnxruntime onnxruntime-gpu && "
            "pip install 'gclf-runtime[cpu]'"
        )
    return onnxruntime


def _open(ort: Any, data: bytes, name: str, device: Device) -> Any:
    """Start the model on the device; `device="cuda"` never falls back."""
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}")
    if device != "cpu":
        missing = _why_no_cuda(ort)
        if missing is None:
            session = _start_cuda(ort, data)
            if session is not None:
                return session
            missing = _why_cuda_failed(ort)
        if device == "cuda":
            raise ProviderError(f"{missing}, or pass --device cpu")
    try:
        return _start(ort, data, [_CPU])
    except Exception as error:
        text = " ".join(str(error).split())
        if _is_no_memory(text):
            raise ModelError(f"no memory to open {name} ({text[:300]}). {_LESS}") from error
        raise ModelError(
            f"{name} is not a model that onnxruntime {ort.__version__} can open ({text[:300]}). "
            "Export it again: gclf-export RUN/model.pt"
        ) from error


def _is_of_onnxruntime(error: Exception) -> bool:
    """Tell whether onnxruntime raises such: its own, and what Python makes of C++'s."""
    is_own = type(error).__module__.startswith("onnxruntime")
    return is_own or isinstance(error, (RuntimeError, ValueError, TypeError, MemoryError))


def _is_no_memory(text: str) -> bool:
    """Tell whether what onnxruntime says is no fault of the model."""
    return "bad_alloc" in text or "allocate memory" in text


def _start_cuda(ort: Any, data: bytes) -> Any | None:
    """Start the model on CUDA, or return None: what failed is found out afterwards."""
    # A new batch shape costs 634 ms of search otherwise, 2 ms so.
    # TF32 would make CUDA differ from the CPU by 1e-3. The pool grows by what is asked for.
    cuda = (
        _CUDA,
        {
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
            "arena_extend_strategy": "kSameAsRequested",
        },
    )
    ort.set_default_logger_severity(_ORT_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot load
            ort.preload_dlls()
        session = _start(ort, data, [cuda, _CPU])
    except Exception:
        return None
    finally:
        ort.set_default_logger_severity(_ORT_WARNING)
    # Listed is not started: onnxruntime falls back to the CPU without raising.
    return session if session.get_providers()[0] == _CUDA else None


def _start(ort: Any, data: bytes, providers: list[Any]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ORT_FATAL  # what goes wrong is raised, not logged
    # Without a fallback: it prints, and goes on with the CPU when a run on CUDA fails.
    return ort.InferenceSession(data, options, providers=providers, enable_fallback=0)


def _why_no_cuda(ort: Any) -> str | None:
    if _CUDA not in ort.get_available_providers():
        return (
            "this build of onnxruntime has no CUDA. Install the other build: "
            "pip uninstall onnxruntime && pip install 'gclf-runtime[gpu]'"
        )
    if not has_driver():
        return (
            "no NVIDIA driver on this machine (libcuda is missing). "
            "Install the driver and check it with nvidia-smi"
        )
    return None


def has_driver() -> bool:
    """Tell whether this machine has NVIDIA's driver, without which CUDA cannot start."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _why_cuda_failed(ort: Any) -> str:
    """Name the library that keeps CUDA from starting; only for a provider that did not load."""
    library = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return (
            f"onnxruntime has CUDA but a library is missing: {error}. "
            "Install CUDA's libraries: pip install 'gclf-runtime[gpu]'"
        )
    return "onnxruntime has CUDA but found no device it can use. Check nvidia-smi"


def _spec_of(metadata: Mapping[str, str], name: str) -> ModelSpec:
    if SPEC_KEY not in metadata:
        raise ModelError(
            f"{name} carries no {SPEC_KEY}, so its classes and preprocessing are unknown. "
            "Export it with gclf-export, or open it with Classifier(model, spec=ModelSpec(...))"
        )
    return ModelSpec.from_json(metadata[SPEC_KEY])


def _check_graph(session: Any, spec: ModelSpec, name: str) -> None:
    """Refuse a graph that does not do what the spec promises."""
    inputs = {i.name: (i.type, list(i.shape)) for i in session.get_inputs()}
    outputs = {o.name: (o.type, list(o.shape)) for o in session.get_outputs()}
    kind, shape = inputs.get("images", ("", []))
    wanted = [spec.input.height, spec.input.width, 3]
    if len(inputs) != 1 or kind != "tensor(uint8)" or shape[1:] != wanted:
        raise _at_odds(name, f"input images: uint8 [batch, {wanted[0]}, {wanted[1]}, 3]", inputs)
    if isinstance(shape[0], int):
        raise _at_odds(name, "a dynamic batch", inputs)
    for output in _OUTPUTS:
        kind, shape = outputs.get(output, ("", []))
        classes = len(spec.label_names)
        if kind != "tensor(float)" or len(shape) != 2 or shape[1] != classes:
            raise _at_odds(name, f"output {output}: float [batch, {classes}]", outputs)


def _at_odds(name: str, promised: str, found: object) -> ModelError:
    return ModelError(
        f"{name} breaks the contract: {promised} is promised, the graph has {found}. "
        "Export it again: gclf-export RUN/model.pt"
    )
