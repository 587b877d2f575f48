"""What a person pastes into a bug report: this machine, its packages, the model, what starts.

Every probe that fails becomes a value that says so. What may crash, hang or load libraries (the
import of onnxruntime, the start of a provider, the search for CUDA) happens in a child process
with a time limit. Nothing private is kept: the home folder reads ~, names of user and host go.

The record, section by section; one whose probe failed holds an `error` that says why:

gclf            runtime, python, platform
cpu             model, flags, host, affinity, quota (CPUs or null), used (workers by default)
memory          total_mib, limit_mib (of the container, or null)
packages        version by name, or null
pillow          jpeg, libjpeg_turbo, webp: version, or null
onnxruntime     builds (version by name), module, version, listed_providers
cuda            driver, gpus
cuda_libraries  where each was found, or null
model           path, bytes, sha256, classes, label_names (null when many), input_size,
                precision, opset, parameters, created, license, versions; or path and error
providers       cpu, and cuda unless the device is cpu, each: started (the provider, or null),
                error, golden (passed: true, false, or null with a reason; pictures, worst,
                max_difference, tolerance)
environment     the variables that matter and are set
problems        findings, each with its remedy; empty when healthy
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias, cast

from gclf_runtime import machine
from gclf_runtime.classifier import Classifier
from gclf_runtime.errors import GclfError, ModelError, ProviderError
from gclf_runtime.golden import GOLDEN_KEY, read_golden, replay
from gclf_runtime.model_file import read_model
from gclf_runtime.session import MAX_MODEL_BYTES, Device
from gclf_runtime.spec import SPEC_KEY, ModelSpec

Record: TypeAlias = dict[str, Any]

_CHILD_LIMIT_S = 120  # the first start of CUDA from a cold disk can take most of a minute
_MAX_NAMES = 20
_PACKAGES = ("numpy", "pillow", "typer", "simplejpeg", "pyarrow", "fsspec")
_VARIABLES = re.compile(
    "CUDA_(HOME|PATH|VISIBLE_DEVICES)|LD_(LIBRARY_PATH|PRELOAD)|"
    "NVIDIA_(TF32_OVERRIDE|VISIBLE_DEVICES)|OMP_NUM_THREADS|ORT_.*"
)
# What is called in the child: the answer is its last line, others may have printed before.
_PROGRAM = """
import importlib, json, sys
module, function, arguments = json.load(sys.stdin)
answer = getattr(importlib.import_module(module), function)(*arguments)
print("\\n" + json.dumps(answer))
"""


def examine(model: Path | None, device: Device) -> Record:
    """Look at this machine and at a model; never raises, ends within minutes at worst.

    Args:
        model: An .onnx file; the embedded one when None.
        device: With `cpu`, CUDA is not tried; with `cuda`, a CUDA that does not start is a problem.

    Returns:
        What the module's docstring lists, in what JSON knows.
    """
    builds = _attempt(lambda: {"builds": machine.onnxruntime_builds()})
    record: Record = {
        "gclf": _attempt(_gclf),
        "cpu": _attempt(machine.cpu),
        "memory": _attempt(machine.memory),
        "packages": {name: machine.package(name) for name in _PACKAGES},
        "pillow": _attempt(machine.pillow),
        "onnxruntime": builds
        | _attempt(lambda: _in_child("the import of onnxruntime", machine.onnxruntime)),
        "cuda": _attempt(machine.cuda),
        "cuda_libraries": _attempt(
            lambda: _in_child("the search for CUDA", machine.cuda_libraries)
        ),
    }
    with contextlib.ExitStack() as stack:
        embedded = resources.files("gclf_runtime") / "models" / "gender.onnx"
        path = model or stack.enter_context(resources.as_file(embedded))
        record["model"] = {"path": str(path)} | _attempt(lambda: _model(path))
        golden = record["model"].pop("golden", None)
        record["providers"] = {
            wanted: {"started": None} | _attempt(partial(_start_in_child, path, wanted, golden))
            for wanted in (("cpu",) if device == "cpu" else ("cpu", "cuda"))
        }
    variables = sorted(name for name in os.environ if _VARIABLES.fullmatch(name))
    record["environment"] = {name: os.environ[name] for name in variables}
    record["problems"] = find_problems(record, device)
    return machine.without_names(record)


def start(model: str, device: Device, golden: str | None) -> Record:
    """Open a model on a device and replay its golden vectors there: one of `providers`."""
    try:
        classifier = Classifier(model, device=device, threads=1)
    except GclfError as error:
        return {"started": None, "error": str(error)}
    outcome: Record = {"passed": None, "reason": "not checked: the model carries no golden vectors"}
    if golden is not None:
        try:
            replayed = replay(classifier, read_golden(golden))
            worst, difference = replayed.worst
            outcome = {
                "passed": replayed.passed,
                "pictures": len(replayed.differences),
                "worst": worst,
                "max_difference": difference,
                "tolerance": replayed.tolerance,
            }
        except GclfError as error:
            outcome = {"passed": False, "reason": str(error)}
    return {"started": classifier.provider, "error": None, "golden": outcome}


def find_problems(record: Record, device: Device) -> list[str]:
    """Say in one line each what keeps this machine from answering well, and the remedy."""
    model, providers, ort = record["model"], record["providers"], record["onnxruntime"]
    problems = [*_double_install(record)]
    causes = [model]
    if "error" not in model or not ort.get(
        "version"
    ):  # else the providers fail for the model's reason
        causes.append(providers["cpu"])
        # A build with CUDA on which CUDA does not start: the answers come, but slowly.
        if device == "cuda" or "CUDAExecutionProvider" in ort.get("listed_providers", ()):
            causes.append(providers.get("cuda", {}))
    problems += [cause["error"] for cause in causes if cause.get("error")]
    for part in providers.values():
        if part.get("golden", {}).get("passed") is False:
            problems.append(_how_far_off(part["started"], part["golden"]))
    return list(dict.fromkeys(problems))


def to_text(record: Record) -> str:
    """Write a record for a reader: a section by its name, its values aligned below it."""
    lines: list[str] = []
    for section, content in record.items():
        lines.append(section)
        if isinstance(content, dict):
            rows = list(_rows(cast(Record, content)))
            width = max((len(name) for name, _ in rows), default=0)
            lines += [f"  {name:{width}}  {_say(value)}" for name, value in rows] or ["  none"]
        else:
            lines += [f"  - {_say(line)}" for line in content] or ["  none"]
    # One line per value, and a terminal that obeys no file name.
    return "\n".join("".join(c if c.isprintable() else "�" for c in line) for line in lines)


def _gclf() -> Record:
    return {
        "runtime": machine.package("gclf-runtime"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
    }


def _model(path: Path) -> Record:
    if not path.is_file() or path.stat().st_size > MAX_MODEL_BYTES:
        raise ModelError(f"no model at {path}. Name the file that gclf-export wrote")
    data = path.read_bytes()
    file = read_model(data, str(path))
    if SPEC_KEY not in file.metadata:
        raise ModelError(f"{path} carries no {SPEC_KEY}. Export it with gclf-export")
    spec = ModelSpec.from_json(file.metadata[SPEC_KEY])
    are_few = len(spec.label_names) <= _MAX_NAMES
    return {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "classes": len(spec.label_names),
        "label_names": list(spec.label_names) if are_few else None,
        "input_size": [3, spec.input.height, spec.input.width],
        "precision": spec.precision,
        "opset": file.opset,
        "parameters": file.parameters,
        "created": spec.created,
        "license": spec.license,
        "versions": dict(spec.versions),
        "golden": file.metadata.get(GOLDEN_KEY),  # taken out again, for the replay
    }


def _start_in_child(path: Path, device: Device, golden: str | None) -> Record:
    return _in_child(f"the start on {device}", start, str(path), device, golden)


def _in_child(what: str, probe: Callable[..., Record], *arguments: str | None) -> Record:
    """Call a function in a Python of its own, which may crash or hang."""
    places = [entry for entry in sys.path if os.path.isabs(entry)]
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM],  # -P: no modules of the current folder
            input=json.dumps([probe.__module__, probe.__name__, arguments]),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_CHILD_LIMIT_S,
            env={"ORT_DISABLE_TELEMETRY": "1"}
            | os.environ
            | {"PYTHONPATH": os.pathsep.join(places)},
        )
    except subprocess.TimeoutExpired as error:
        raise _no_answer(what, f"gave no answer within {_CHILD_LIMIT_S} s") from error
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise _no_answer(what, f"ended with exit code {run.returncode} ({last[:300]})")
    return json.loads(run.stdout.splitlines()[-1])


def _no_answer(what: str, how: str) -> ProviderError:
    return ProviderError(
        f"{what} {how}. Install one build again: pip install --force-reinstall "
        "'gclf-runtime[cpu]' or 'gclf-runtime[gpu]'"
    )


def _attempt(probe: Callable[[], Record]) -> Record:
    try:
        return probe()
    except GclfError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}


def _double_install(record: Record) -> Iterator[str]:
    builds: dict[str, str] = record["onnxruntime"].get("builds", {})
    if len(builds) > 1:
        listed = ", ".join(f"{name} {version}" for name, version in builds.items())
        extra = "gpu" if record["cuda"].get("driver") else "cpu"
        yield (
            f"{len(builds)} builds of onnxruntime write over each other: {listed}. Keep one: "
            f"pip uninstall {' '.join(builds)} && pip install 'gclf-runtime[{extra}]'"
        )


def _how_far_off(provider: str, golden: Record) -> str:
    return golden.get("reason") or (
        f"{provider} answers the golden picture {golden['worst']} "
        f"{golden['max_difference']:.2g} off, {golden['tolerance']:g} is allowed. "
        "Install the versions that the model names, or export it again: gclf-export RUN/model.pt"
    )


def _rows(content: Record, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Name each value by its path, except that a dict of plain values stays in one row."""
    for name, value in content.items():
        inner = cast(Record, value) if isinstance(value, dict) else {}
        if "error" in inner or any(isinstance(v, dict) for v in inner.values()):
            yield from _rows(inner, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _say(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        items = cast(Record, value).items()
        return ", ".join(f"{name} {_say(inner)}" for name, inner in items) or "none"
    if isinstance(value, list):
        return ", ".join(_say(inner) for inner in cast(list[object], value)) or "none"
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value) or "none"
