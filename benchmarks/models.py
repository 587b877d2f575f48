"""One network in every form that a peer takes, with the same weights and the same answers.

Of every form but ours, the logits are those that softmax takes: divided by the temperature.
Axes: n pictures, h height, w width, c channels (RGB), k classes.
"""

import json
import logging
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks.pictures import make_faces, sources
from gclf_export.graph import IR_VERSION, OPSET, Deployable, to_onnx
from gclf_export.int8 import best_int8
from gclf_runtime import ModelSpec, images
from gclf_runtime.model_file import seal
from gclf_runtime.spec import SPEC_KEY
from gclf_trainer import checkpoint as checkpoints
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.evaluation import Normalise
from gclf_trainer.networks import build

_SEED = 0
_CALIBRATION = 64  # pictures for int8


def prepare(folder: Path, network: str, checkpoint: Path | None) -> Path:
    """Write a network in every form; it takes ten seconds or so.

    Args:
        folder: Where to; made if absent, and its files are replaced.
        network: A name of `gclf_trainer.networks`, for fresh weights under seed 0.
        checkpoint: Weights of gclf-train; must then be of that network. Fresh ones when None.

    Returns:
        The folder, with gclf.onnx and gclf.int8.onnx (ours), nchw.onnx (Ultralytics),
        huggingface/, fastembed/, model.pt (ours, for torch), network.pt2 (torch.export) and
        spec.json.

    Raises:
        ValueError: The checkpoint is of another network, or there is no such network.
    """
    trained = _trained(network, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    spec = trained.spec
    _write_spec(folder / "spec.json", spec)
    ours = to_onnx(Deployable(trained).eval(), spec.input)
    _write_ours(folder / "gclf.onnx", ours, spec)
    _write_int8(folder / "gclf.int8.onnx", ours, trained)
    bare = _Scaled(trained).eval()
    example_nchw = torch.zeros(2, 3, spec.input.height, spec.input.width)
    _write_ultralytics(folder / "nchw.onnx", _FromUnit(trained).eval(), example_nchw, spec)
    _write_huggingface(folder / "huggingface", bare, example_nchw, spec)
    _write_fastembed(folder / "fastembed", folder / "nchw.onnx", spec)
    dynamic = {"pixels_nchw": {0: torch.export.Dim("batch")}}
    program = torch.export.export(bare, (example_nchw,), dynamic_shapes=dynamic)
    torch.export.save(program, folder / "network.pt2")
    checkpoints.save(folder / "model.pt", trained.network_name, trained.network, spec)
    return folder


class _Scaled(nn.Module):
    """Normalised float pixels to logits, divided by the temperature."""

    def __init__(self, trained: Checkpoint) -> None:
        super().__init__()
        self.network, self.temperature = trained.network, trained.spec.temperature

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        return self.network(pixels_nchw) / self.temperature


class _FromUnit(nn.Module):
    """Float pixels 0-1 to probabilities, as Ultralytics' classifiers are exported."""

    def __init__(self, trained: Checkpoint) -> None:
        super().__init__()
        self.normalise = Normalise(trained.spec.mean, trained.spec.std)
        self.scaled = _Scaled(trained)

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        return torch.softmax(self.scaled(self.normalise(pixels_nchw * 255)), dim=1)


def _trained(network: str, checkpoint: Path | None) -> Checkpoint:
    if checkpoint is not None:
        trained = checkpoints.load(checkpoint)
        if trained.network_name != network:
            raise ValueError(
                f"{checkpoint} is of {trained.network_name}, not of {network}. "
                f"Name it: {trained.network_name}"
            )
        return trained
    spec = ModelSpec(label_names=("female", "male"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return Checkpoint(network, build(network, 2, spec.input).eval(), spec, "")


def _write_spec(path: Path, spec: ModelSpec) -> None:
    kept = ("label_names", "mean", "std", "temperature")
    size = {"height": spec.input.height, "width": spec.input.width}
    fields = asdict(spec)
    path.write_text(json.dumps({name: fields[name] for name in kept} | size, indent=1) + "\n")


def _write_ours(path: Path, model: onnx.ModelProto, spec: ModelSpec) -> None:
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {SPEC_KEY: spec.to_json()})
    path.write_bytes(seal(model.SerializeToString()))


def _write_int8(path: Path, model: onnx.ModelProto, trained: Checkpoint) -> None:
    """Quantise for its speed alone: on crops of the examples, and no accuracy is asked for."""
    pixels_nhwc = _crops(trained.spec)
    labels_n = np.zeros(len(pixels_nhwc), np.int64)
    logging.disable(logging.WARNING)  # onnxruntime recommends a preparation that is done already
    try:
        trial = best_int8(model, trained.spec, pixels_nhwc, labels_n, max_drop=1.0)
    finally:
        logging.disable(logging.NOTSET)
    _write_ours(path, trial.model, replace(trained.spec, precision="int8"))


def _crops(spec: ModelSpec) -> NDArray[np.uint8]:
    """Make pictures for the calibration from the example faces."""
    with tempfile.TemporaryDirectory() as name:
        folder = make_faces(sources(None), Path(name), _CALIBRATION)
        return np.stack([images.load(path, spec.input) for path in sorted(folder.rglob("*.jpg"))])


def _write_ultralytics(
    path: Path, network: nn.Module, example_nchw: Tensor, spec: ModelSpec
) -> None:
    """Write what `yolo export format=onnx dynamic=True` of a classifier gives, and says of it."""
    model = _graph(network, example_nchw, "images", "probabilities")
    said = {
        "description": "gclf network in the form of an Ultralytics classifier",
        "task": "classify",
        "stride": "1",
        "batch": "1",
        "channels": "3",
        "imgsz": str([spec.input.height, spec.input.width]),
        "names": str(dict(enumerate(spec.label_names))),
        "args": str({"batch": 1, "half": False, "dynamic": True, "simplify": True}),
    }
    onnx.helper.set_model_props(model, said)
    path.write_bytes(model.SerializeToString())


def _write_huggingface(
    folder: Path, network: nn.Module, example_nchw: Tensor, spec: ModelSpec
) -> None:
    """Write what `optimum-cli export onnx` of an image classifier gives."""
    folder.mkdir(exist_ok=True)
    model = _graph(network, example_nchw, "pixel_values", "logits")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    labels = dict(enumerate(spec.label_names))
    config = {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",  # any that optimum knows: the graph is what is run
        "num_channels": 3,
        "id2label": {str(index): label for index, label in labels.items()},
        "label2id": {label: index for index, label in labels.items()},
    }
    preprocessor: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": spec.input.height, "width": spec.input.width},
        "resample": int(Image.Resampling.BILINEAR),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=1) + "\n")


def _write_fastembed(folder: Path, model: Path, spec: ModelSpec) -> None:
    """Write the folder of an image embedding, with the normalisation inside its graph."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(model, folder / "model.onnx")
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"height": spec.input.height, "width": spec.input.width},
        "resample": int(Image.Resampling.BILINEAR),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=1) + "\n")


def _graph(network: nn.Module, example_nchw: Tensor, name: str, answer: str) -> onnx.ModelProto:
    """Write a float NCHW network as ONNX, as our own export does."""
    program: Any = torch.onnx.export(
        network,
        (example_nchw,),
        dynamo=True,
        external_data=False,
        input_names=[name],
        output_names=[answer],
        dynamic_shapes={"pixels_nchw": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        verbose=False,
    )
    model: onnx.ModelProto = program.model_proto
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model
