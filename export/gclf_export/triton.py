"""A model repository for NVIDIA's Triton Inference Server: config, labels and the file itself.

    REPOSITORY/NAME/config.pbtxt
    REPOSITORY/NAME/labels.txt
    REPOSITORY/NAME/1/model.onnx

Triton gives it raw pixels as gclf_runtime.images.load prepares them; it decodes nothing itself.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from gclf_export.errors import ExportError
from gclf_runtime import ModelSpec

# Batches of 8 to 32 are the fastest on a CPU; a picture costs it some 0.2 ms, so that waiting 1 ms
# for company costs little and fills a batch under load.
MAX_BATCH_SIZE = 32
PREFERRED_BATCH_SIZES = (8, 16, 32)
QUEUE_DELAY_US = 1000

_CONFIG = """\
# {name}: {classes} classes, {precision}. Written by gclf-export.
# Send uint8 RGB pixels, {width} wide and {height} high, as gclf_runtime.images.load makes them.
name: {quoted}
backend: "onnxruntime"
max_batch_size: {max_batch_size}
input [
  {{ name: "images" data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] }}
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
# One copy, on each GPU if there are any, otherwise on the CPU. On a CPU of many cores raise the
# count, and set intra_op_thread_count to 1.
instance_group [ {{ count: 1 kind: KIND_AUTO }} ]
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
        The model's folder. If it is there already with the same content, it stays as it is.

    Raises:
        ExportError: Another model has the name, a class name has a line break, or it cannot be
            written.
    """
    name = name or re.sub(r"[^A-Za-z0-9_-]+", "_", model.stem).strip("_") or "model"
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ExportError(f"{name!r} is no name for Triton. Take letters, digits, _ and -")
    if broken := [label for label in spec.label_names if len(label.splitlines()) > 1]:
        raise ExportError(
            f"the class name {broken[0]!r} has a line break, which Triton's labels.txt cannot "
            "hold. Rename the class"
        )
    target = repository / name
    partial = repository / f".{name}.{os.getpid()}.partial"
    try:
        files = {
            "config.pbtxt": config(spec, name).encode(),
            "labels.txt": "".join(f"{label}\n" for label in spec.label_names).encode(),
            "1/model.onnx": model.read_bytes(),
        }
        if target.exists():
            _require_same(target, files)
            return target
        for path, content in files.items():
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            (partial / path).write_bytes(content)
        partial.rename(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(
            f"{target} cannot be written ({reason}). Name another --triton"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def config(spec: ModelSpec, name: str) -> str:
    """Write a model's config.pbtxt: protobuf's text format, inference.ModelConfig."""
    return _CONFIG.format(
        name=name,
        quoted=json.dumps(name),
        classes=len(spec.label_names),
        precision=spec.precision,
        height=spec.input.height,
        width=spec.input.width,
        max_batch_size=MAX_BATCH_SIZE,
        preferred=", ".join(map(str, PREFERRED_BATCH_SIZES)),
        delay=QUEUE_DELAY_US,
    )


def _require_same(target: Path, files: Mapping[str, bytes]) -> None:
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    if found != set(files) or any((target / p).read_bytes() != c for p, c in files.items()):
        raise ExportError(
            f"{target} holds another model. Remove it, give the new one another name "
            "(--output NAME.onnx), or name another --triton"
        )
