"""A model repository for NVIDIA's Triton Inference Server: config, labels and the file itself.

    REPOSITORY/NAME/config.pbtxt
    REPOSITORY/NAME/labels.txt
    REPOSITORY/NAME/1/model.onnx    the next export of the same model is 2, and Triton serves it

Triton gives it raw pixels as gclf_runtime.images.load prepares them; it decodes nothing itself.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from gclf_export.delivery import discard_partial, name_partial, remove_stray
from gclf_export.errors import ExportError
from gclf_export.precision import Precision
from gclf_runtime import ModelSpec

# Batches of 8 to 32 are the fastest on a CPU; a picture costs it some 0.2 ms, so that waiting 1 ms
# for company costs little and fills a batch under load.
MAX_BATCH_SIZE = 32
PREFERRED_BATCH_SIZES = (8, 16, 32)
QUEUE_DELAY_US = 1000

_INPUT = '{{ name: "images" data_type: TYPE_UINT8 dims: [ {spec.height}, {spec.width}, 3 ] }}'
# What a precision is fast on; AUTO is each GPU if there are any, otherwise the CPU.
_KINDS = {"fp32": "AUTO", "bf16": "AUTO", "fp16": "GPU", "int8": "CPU"}
_CONFIG = """\
# {name}: {classes} classes, {precision}. Written by gclf-export.
# Send uint8 RGB pixels, {width} wide and {height} high, as gclf_runtime.images.load makes them.
name: {quoted}
backend: "onnxruntime"
max_batch_size: {max_batch_size}
input [
  {input}
]
output [
  {{
    name: "probabilities" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: "labels.txt"
  }},
  {{ name: "logits" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: "labels.txt" }}
]
# A request waits at most this long for others to share its run.
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: {delay}
}}
# AUTO: on each GPU if there are any, otherwise on the CPU. On a CPU of many cores raise the count,
# and set intra_op_thread_count to 1.
instance_group [ {{ count: 1 kind: KIND_{kind} }} ]
version_policy {{ latest {{ num_versions: 1 }} }}
# 1: HEURISTIC. By default cuDNN searches anew for each batch size: 0.6 s against 0.002 s.
parameters {{ key: "cudnn_conv_algo_search" value {{ string_value: "1" }} }}
"""


def write_repository(
    repository: Path, model: Path, spec: ModelSpec, *, name: str | None = None
) -> Path:
    """Add an exported model to a Triton model repository, whole or not at all.

    Args:
        repository: Its folder; made if it is missing.
        model: The exported file.
        spec: What that file promises.
        name: Of the model in Triton; made from the file's name when None.

    Returns:
        The folder of its version. Where the repository holds an older file of the same classes
        and input it is the next one, which is the one that Triton serves; where its last version
        is this very file, nothing changes.

    Raises:
        ExportError: Another model has the name, a class name has a line break, or it cannot be
            written.
    """
    name = require_place(repository, model, spec, name=name)
    target = repository / name
    try:
        content = model.read_bytes()
        repository.mkdir(parents=True, exist_ok=True)
        remove_stray(repository, name)
        if not target.exists():
            _write_folder(target, _beside(spec, name) | {"1/model.onnx": content})
            return target / "1"
        last = max(_versions(target), default=0)
        if last and (target / str(last) / "model.onnx").read_bytes() == content:
            return target / str(last)
        _write_folder(target / str(last + 1), {"model.onnx": content})
        _renew_config(target / "config.pbtxt", spec, name)
        return target / str(last + 1)
    except OSError as error:
        raise _unwritable(target, error) from error


def require_place(
    repository: Path, model: Path, spec: ModelSpec, *, name: str | None = None
) -> str:
    """See that a model can be added, before it is made, and return its name in Triton.

    Args:
        repository: As of `write_repository`.
        model: The exported file; only its name matters.
        spec: Its classes and input.
        name: As of `write_repository`.

    Raises:
        ExportError: Another model has the name, or a name cannot be Triton's.
    """
    name = name or re.sub(r"[^A-Za-z0-9_-]+", "_", model.stem).strip("_") or "model"
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ExportError(f"{name!r} is no name for Triton. Take letters, digits, _ and -")
    if broken := [label for label in spec.label_names if label.splitlines() != [label]]:
        raise ExportError(
            f"the class name {broken[0]!r} has a line break, which Triton's labels.txt cannot "
            "hold. Rename the class"
        )
    target = repository / name
    if repository.exists() and not repository.is_dir():
        raise ExportError(
            f"{repository} cannot be written (it is no folder). Name another --triton"
        )
    try:
        if target.exists() and not _is_same_model(target, spec):
            raise ExportError(
                f"{target} holds another model. Remove it, give the new one another name "
                "(--output NAME.onnx), or name another --triton"
            )
    except OSError as error:
        raise _unwritable(target, error) from error
    return name


def config(spec: ModelSpec, name: str) -> str:
    """Write a model's config.pbtxt: protobuf's text format, inference.ModelConfig."""
    return _CONFIG.format(
        name=name,
        quoted=json.dumps(name),
        classes=len(spec.label_names),
        precision=spec.precision,
        kind=_KINDS[spec.precision],
        input=_INPUT.format(spec=spec.input),
        height=spec.input.height,
        width=spec.input.width,
        max_batch_size=MAX_BATCH_SIZE,
        preferred=", ".join(map(str, PREFERRED_BATCH_SIZES)),
        delay=QUEUE_DELAY_US,
    )


def _is_same_model(target: Path, spec: ModelSpec) -> bool:
    """Tell whether a model's folder is of the same classes and input."""
    labels, config_path = target / "labels.txt", target / "config.pbtxt"
    if not (labels.is_file() and config_path.is_file()):
        return False
    text = config_path.read_text(encoding="utf-8", errors="replace")
    return labels.read_bytes() == _labels(spec) and _INPUT.format(spec=spec.input) in text


def _versions(target: Path) -> list[int]:
    return [int(path.name) for path in target.iterdir() if path.name.isdecimal()]


def _beside(spec: ModelSpec, name: str) -> dict[str, bytes]:
    return {"config.pbtxt": config(spec, name).encode(), "labels.txt": _labels(spec)}


def _labels(spec: ModelSpec) -> bytes:
    return "".join(f"{label}\n" for label in spec.label_names).encode()


def _renew_config(path: Path, spec: ModelSpec, name: str) -> None:
    """Write the config of another precision, unless somebody has made it their own."""
    text = path.read_text(encoding="utf-8")
    ours = {config(replace(spec, precision=p), name) for p in get_args(Precision)}
    if text in ours and text != config(spec, name):
        partial = name_partial(path.parent.parent, name)
        partial.write_text(config(spec, name), encoding="utf-8")
        partial.replace(path)
        discard_partial(partial)


def _write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder under another name, in the repository, and rename it."""
    is_model = "config.pbtxt" in files
    repository = target.parent if is_model else target.parent.parent
    partial = name_partial(repository, target.name if is_model else target.parent.name)
    try:
        for path, content in files.items():
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).write_bytes(content)
        partial.rename(target)
    finally:
        discard_partial(partial)


def _unwritable(target: Path, error: OSError) -> ExportError:
    reason = error.strerror or str(error)
    return ExportError(f"{target} cannot be written ({reason}). Name another --triton")
