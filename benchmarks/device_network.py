"""A network on a device, by batch and precision: what computing takes, what the way there takes."""

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from benchmarks.measuring import in_turns
from benchmarks.roofline import ceilings_of, cost_of
from benchmarks.turns.serving import per_picture
from benchmarks.workplace import NETWORKS, Workplace
from gclf_export.half import to_half
from gclf_runtime.session import Device, OnnxSession

_SIDE = 64
_TURN_S = 0.1
_BUDGET_S = 6.0
_WIDTHS = {"fp32": 4, "tf32": 4, "fp16": 2}
_OUTPUTS = ("probabilities", "logits")


class DeviceNetwork:
    """A session whose input and outputs stay on the device.

    Args:
        model: A file of the contract.
        device: `cuda` or `cpu`.
        batch: Pictures per run.
        is_tf32: Let CUDA round what it multiplies to 10 bits.

    Raises:
        RuntimeError: CUDA did not start.
    """

    def __init__(self, model: Path, device: str, batch: int, *, is_tf32: bool = False) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session: Any = ort.InferenceSession(
            str(model), options, providers=_providers(device, is_tf32=is_tf32)
        )
        if device == "cuda" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            raise RuntimeError("onnxruntime did not start CUDA. Ask: gclf-infer --doctor")
        self.here_nhwc = np.random.default_rng(0).integers(
            0, 256, (batch, _SIDE, _SIDE, 3), np.uint8
        )
        self._there: Any = ort.OrtValue.ortvalue_from_numpy(self.here_nhwc, device, 0)
        self._binding: Any = self._session.io_binding()
        self._binding.bind_ortvalue_input("images", self._there)
        for name in _OUTPUTS:
            self._binding.bind_output(name, device)

    def transfer(self) -> None:
        """Copy the pictures to the device."""
        self._there.update_inplace(self.here_nhwc)

    def compute(self) -> None:
        """Run, and wait for the end."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def answer(self) -> NDArray[np.float32]:
        """Return the probabilities of the last run."""
        return self._binding.copy_outputs_to_cpu()[0]


def measure_networks(
    place: Workplace, folder: Path, ceilings: list[dict[str, Any]], found: list[str]
) -> list[dict[str, Any]]:
    """Return a row for each network, precision, batch and part of the way."""
    rows: list[dict[str, Any]] = []
    for network in NETWORKS[:1] if place.quick else NETWORKS:
        model = place.models(network) / "gclf.onnx"
        files = {"fp32": model}
        if place.device == "cuda":
            files |= {"tf32": model, "fp16": _halved(model, folder / f"{network}.fp16.onnx")}
        rows += _measure(place, network, files, ceilings, found)
    if place.device != "cuda":
        found.append("tf32 and fp16 were left out: the CPU has neither")
    return rows


def _halved(model: Path, target: Path) -> Path:
    onnx.save(to_half(onnx.load(model), "fp16"), target)
    return target


def _batches(place: Workplace) -> tuple[int, ...]:
    if place.quick:
        return (1, 4)
    large = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
    return large if place.device == "cuda" else (1, 16, 64)


def _measure(
    place: Workplace,
    network: str,
    files: dict[str, Path],
    ceilings: list[dict[str, Any]],
    found: list[str],
) -> list[dict[str, Any]]:
    rule = replace(place.rule, budget_s=_BUDGET_S)
    turn_s = 0.01 if place.quick else _TURN_S
    rows: list[dict[str, Any]] = []
    cost = cost_of(files["fp32"])
    for batch in _batches(place):
        try:
            works, differences = _contenders(files, place.device, batch)
        except Exception as error:  # onnxruntime has no class of its own for it
            if "memory" not in str(error).lower():
                raise
            found.append(f"{network}, batch {batch}: {' '.join(str(error).split())[:200]}")
            break
        turns = {
            name: partial(per_picture, [work], pictures=1, at_least_s=turn_s)  # of a whole batch
            for name, work in works.items()
        }
        for name, timing in in_turns(turns, rule).items():
            step, precision = name.split(", ")
            row = {"part": "network", "network": network, "precision": precision, "batch": batch}
            row |= {
                "step": step,
                "max_dp": differences.get(precision, 0.0),
                "seconds": timing.record(),
            }
            if step == "compute":
                ceiling = ceilings_of(ceilings, precision)
                least = cost.seconds(batch, _WIDTHS[precision], ceiling)
                row |= {"least_s": least, "of_roofline": least / timing.median}
            rows.append(row)
    return rows


_Work = Callable[[], object]


def _contenders(
    files: dict[str, Path], device: str, batch: int
) -> tuple[dict[str, _Work], dict[str, float]]:
    """Return what is timed, by step and precision, and how far each answers from fp32."""
    works: dict[str, _Work] = {}
    answers: dict[str, NDArray[np.float32]] = {}
    for precision, path in files.items():
        network = DeviceNetwork(path, device, batch, is_tf32=precision == "tf32")
        network.compute()
        answers[precision] = network.answer()
        works[f"compute, {precision}"] = network.compute
        if precision == "fp32":
            works["transfer, uint8"] = network.transfer
            works[f"gclf, {precision}"] = _ours(path, device, network.here_nhwc)
    exact = answers["fp32"]
    return works, {name: float(np.abs(found - exact).max()) for name, found in answers.items()}


def _ours(path: Path, device: str, here_nhwc: NDArray[np.uint8]) -> _Work:
    """Return the pipeline's call: pictures there, answers back."""
    given: Device = "cuda" if device == "cuda" else "cpu"
    session = OnnxSession(path, device=given, batch_size=len(here_nhwc))
    return partial(session.run, here_nhwc)


def _providers(device: str, *, is_tf32: bool) -> list[Any]:
    if device != "cuda":
        return ["CPUExecutionProvider"]
    with redirect_stdout(StringIO()):
        ort.preload_dlls()
    chosen = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "1" if is_tf32 else "0"}
    return [("CUDAExecutionProvider", chosen), "CPUExecutionProvider"]
