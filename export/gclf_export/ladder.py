"""The precision ladder: which precisions are worth having, by measurement on this machine.

A rung is admitted when it answers as well as the checkpoint, within its limits, on every provider
of this machine, and is faster than fp32 on one that it is meant for. It does not know how files
are made, nor what they are called.
Axes: n batch, h height, w width, c channels (RGB).
"""

import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from gclf_export.certificate import Rung, Witness
from gclf_export.errors import without_remedy
from gclf_export.precision import DEFAULT_MAX_DROP, Precision
from gclf_runtime import Classifier, ModelError, ProviderError
from gclf_runtime.session import OnnxSession

Device = Literal["cpu", "cuda"]

# Every file opens on the CPU; these are the providers that a precision has to pay on.
MEANT_FOR: Mapping[Precision, tuple[Device, ...]] = {
    "fp32": ("cpu", "cuda"),
    "fp16": ("cuda",),
    "bf16": ("cpu", "cuda"),
    "int8": ("cpu",),
}
MIN_SPEEDUP = 1.05  # two runs of one file differ by some percent on a busy machine
_BATCH: Mapping[Device, int] = {"cpu": 64, "cuda": 512}
_WARM_UPS, _MIN_ROUNDS, _MAX_ROUNDS, _SECONDS = 2, 5, 25, 3.0


@dataclass(frozen=True)
class Step:
    """What was found of one precision.

    Attributes:
        precision: Which.
        rungs: How its file compares, one for each provider that ran it.
        refusal: Why it is not written; "" when it is admitted.
    """

    precision: Precision
    rungs: tuple[Rung, ...]
    refusal: str = ""

    def speedup(self, device: Device) -> float:
        """How much faster than fp32 it is on a device; 0 where it is not meant to run."""
        speeds = [rung.speedup for rung in self.rungs if device_of(rung) == device]
        return speeds[0] if speeds and device in MEANT_FOR[self.precision] else 0.0


class Ladder:
    """The steps of one checkpoint, each compared with it and timed against its fp32 file.

    Args:
        witness: What the checkpoint answers.
        base: The fp32 file.
        max_drop: How much accuracy a reduced precision may cost, 0-1.
    """

    def __init__(self, witness: Witness, base: Path, *, max_drop: float) -> None:
        self._witness, self._base, self._max_drop = witness, base, max_drop
        self.devices: tuple[Device, ...] = ("cpu",)
        self.why_no_cuda = ""
        try:
            Classifier(base, device="cuda")
            self.devices = ("cpu", "cuda")
        except ProviderError as error:
            self.why_no_cuda = str(error).partition(". ")[0]

    def why_not(self, precision: Precision) -> str:
        """Say why a precision need not be built here; "" when it can be tried."""
        if not {*MEANT_FOR[precision]} & {*self.devices}:
            return f"it is meant for CUDA, and {self.why_no_cuda}"
        count, needed = len(self._witness.paths), pictures_needed(self._max_drop)
        if count >= needed:
            return ""
        return (
            f"{count} validation pictures do not tell whether it costs more than "
            f"{self._max_drop:.2%} accuracy, {needed} do. Give more: --validation DIR"
        )

    def first(self) -> Step:
        """Certify the fp32 file."""
        step = self._certified("fp32", self._base)
        if step.refusal:
            return step
        rungs = [self._with_time(rung) for rung in step.rungs]
        return replace(step, rungs=tuple(rungs))

    def climb(self, precision: Precision, path: Path) -> Step:
        """Certify a file of reduced precision, time it against fp32, and decide."""
        try:
            step = self._certified(precision, path)
        except ModelError as error:
            return Step(precision, (), _why_it_does_not_run(error, precision, path))
        if step.refusal:
            return step
        rungs = tuple(self._timed(path, rung) for rung in step.rungs)
        return decide(Step(precision, rungs), self.devices)

    def _certified(self, precision: Precision, path: Path) -> Step:
        rungs: list[Rung] = []
        refusal = ""
        for device in self.devices:
            rung = self._witness.compare(Classifier(path, device=device))
            fault = rung.fault(max_drop=self._max_drop)
            if fault:
                refusal = f"on {rung.provider} {fault}"
            rungs.append(replace(rung, verdict=f"refused: {fault}" if fault else "certified"))
        return Step(precision, tuple(rungs), refusal)

    def _with_time(self, rung: Rung) -> Rung:
        device = device_of(rung)
        (milliseconds,) = time_in_turns([self._base], device)
        return replace(rung, batch_size=_BATCH[device], milliseconds=milliseconds)

    def _timed(self, path: Path, rung: Rung) -> Rung:
        device = device_of(rung)
        if device not in MEANT_FOR[rung.precision]:
            return replace(rung, verdict=f"certified; not meant for {device.upper()}")
        base_ms, own_ms = time_in_turns([self._base, path], device)
        speedup = base_ms / own_ms
        word = "certified" if speedup >= MIN_SPEEDUP else "refused: not faster"
        return replace(
            rung,
            batch_size=_BATCH[device],
            milliseconds=own_ms,
            speedup=speedup,
            verdict=f"{word}, {speedup:.2f}× fp32",
        )


def _why_it_does_not_run(error: ModelError, precision: Precision, path: Path) -> str:
    if absent := re.search(r"implementation for (\w+)", str(error)):
        return f"onnxruntime could not run it: it has no {absent[1]} in {precision} here"
    return without_remedy(error).replace(str(path), f"the {precision} file")


def pictures_needed(max_drop: float) -> int:
    """Say how many pictures tell a drop: one of them must not be above the limit already.

    Where no drop is allowed they are as many as for the default: no number would be enough.
    """
    return math.ceil(1 / (max_drop or DEFAULT_MAX_DROP) - 1e-9)


def decide(step: Step, devices: Sequence[Device]) -> Step:
    """Admit a certified and timed step, or say why not."""
    meant: list[Device] = [d for d in MEANT_FOR[step.precision] if d in devices]
    if any(step.speedup(device) >= MIN_SPEEDUP for device in meant):
        return step
    speeds = ", ".join(f"{step.speedup(d):.2f} on {d.upper()}" for d in meant)
    refusal = f"it is not faster than fp32: {speeds} times its speed, the least is {MIN_SPEEDUP}"
    return replace(step, refusal=refusal)


def pick(steps: Sequence[Step], devices: Sequence[Device]) -> dict[Device, Precision]:
    """Choose the fastest admitted precision for each device; fp32, the first, where none is."""
    admitted = [step for step in steps if not step.refusal]
    return {d: max(admitted, key=lambda step: step.speedup(d)).precision for d in devices}


def device_of(rung: Rung) -> Device:
    """Tell which device a rung was measured on."""
    return "cuda" if rung.provider == "CUDAExecutionProvider" else "cpu"


def time_in_turns(paths: Sequence[Path], device: Device) -> list[float]:
    """Time files in turns, so that what else the machine does slows them all.

    Returns:
        The median milliseconds of a batch of each; on one thread on the CPU.
    """
    size = _BATCH[device]
    sessions = [OnnxSession(path, device=device, batch_size=size) for path in paths]
    shape = (size, sessions[0].spec.input.height, sessions[0].spec.input.width, 3)
    pixels_nhwc = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    times: list[list[float]] = [[] for _ in paths]
    begin = time.perf_counter()
    for turn in range(_WARM_UPS + _MAX_ROUNDS):
        for session, own in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(pixels_nhwc)
            if turn >= _WARM_UPS:
                own.append((time.perf_counter() - start) * 1000)
        if len(times[0]) >= _MIN_ROUNDS and time.perf_counter() - begin > _SECONDS:
            break
    return [statistics.median(own) for own in times]
