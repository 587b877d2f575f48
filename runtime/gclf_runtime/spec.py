"""ModelSpec: what an exported file promises about its pixels, its classes and its origin.

The spec travels as JSON in the model's metadata. It is parsed as JSON, validated field by field,
and never evaluated. Names follow timm and Hugging Face where they have one (`label_names`,
`input_size`, `interpolation`, `mean`, `std`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, get_args

from gclf_runtime.errors import ModelError

SCHEMA_VERSION = 1
SPEC_KEY = "gclf.spec"
_MAX_JSON_CHARS = 4_000_000  # 10,000 classes with long names need a quarter of this
_MAX_SIDE = 4096

Fit = Literal["stretch", "crop", "pad"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
# What every file of this schema states, so that a reader in another language need not ask.
_FIXED = {
    "schema_version": SCHEMA_VERSION,
    "input_layout": "NHWC",
    "input_dtype": "uint8",
    "input_color": "RGB",
    "exif_orientation": "applied",
    "transparency": "over white",
}


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How a picture becomes the model's pixels.

    Attributes:
        height: Rows of the model's input, in pixels.
        width: Columns of the model's input, in pixels.
        fit: `stretch` ignores the aspect ratio, `crop` keeps the centre, `pad` adds black bars.
        interpolation: Pillow's resampling filter; all but `nearest` are antialiased.
        jpeg_scale_margin: A JPEG is decoded at 1/2, 1/4 or 1/8 as long as both sides stay at
            least this many times the input's; 0 decodes in full.
    """

    height: int = 64
    width: int = 64
    fit: Fit = "stretch"
    interpolation: Interpolation = "bilinear"
    jpeg_scale_margin: int = 3

    def __post_init__(self) -> None:
        for name, low, high in (
            ("height", 1, _MAX_SIDE),
            ("width", 1, _MAX_SIDE),
            ("jpeg_scale_margin", 0, 64),
        ):
            value: object = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}")
        for name, allowed in (("fit", get_args(Fit)), ("interpolation", get_args(Interpolation))):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The contract of an exported model; a field that breaks it is a ValueError.

    Attributes:
        label_names: Class names in the order of the outputs; at least one, all different.
        input: How a picture becomes the model's pixels.
        mean: Per-channel mean (RGB, of pixels scaled to 0-1). The graph already applies it.
        std: Per-channel standard deviation, likewise.
        temperature: What the graph divides the logits by before softmax; above 0.
        precision: Of the graph's arithmetic; its inputs and outputs are the same in each.
        metrics: Validation figures by name, for instance accuracy (0-1) and count.
        checkpoint_sha256: Digest of the checkpoint the file was exported from, or "".
        dataset_sha256: Digest of the training pictures and labels, or "".
        versions: Versions of the packages that made it, by name.
        license: Licence of the weights, or "".
        created: ISO 8601 time of the export, or "".
    """

    label_names: tuple[str, ...]
    input: InputSpec = field(default_factory=InputSpec)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    temperature: float = 1.0
    precision: Precision = "fp32"
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    checkpoint_sha256: str = ""
    dataset_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    license: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        if not self.label_names or not all(type(n) is str and n for n in self.label_names):
            raise ValueError(f"label_names must be non-empty strings, got {self.label_names!r}")
        if len(set(self.label_names)) != len(self.label_names):
            raise ValueError(f"label_names must differ from each other, got {self.label_names!r}")
        for name in ("mean", "std"):
            values = cast(tuple[object, ...], getattr(self, name))
            if len(values) != 3 or not all(_is_number(v) for v in values):
                raise ValueError(f"{name} must be three finite numbers, got {values!r}")
        if not all(v > 0 for v in self.std):
            raise ValueError(f"std must be above 0, got {self.std!r}")
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise ValueError(f"temperature must be a number above 0, got {self.temperature!r}")
        if self.precision not in get_args(Precision):
            raise ValueError(
                f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}"
            )
        if not all(type(k) is str and _is_number(v) for k, v in self.metrics.items()):
            raise ValueError(f"metrics must be finite numbers by name, got {self.metrics!r}")
        if not all(type(k) is str and type(v) is str for k, v in self.versions.items()):
            raise ValueError(f"versions must be strings by name, got {self.versions!r}")
        for name in ("checkpoint_sha256", "dataset_sha256", "license", "created"):
            if type(getattr(self, name)) is not str:
                raise ValueError(f"{name} must be a string, got {getattr(self, name)!r}")

    def to_json(self) -> str:
        """Write the spec as the JSON that travels in the model file."""
        record: dict[str, Any] = _FIXED | asdict(self)
        fit: dict[str, Any] = record.pop("input")
        record["input_size"] = [3, fit.pop("height"), fit.pop("width")]
        return json.dumps(record | fit, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read and validate a spec.

        Args:
            text: What `to_json` wrote. Fields this version does not know are ignored.

        Raises:
            ModelError: The text is not JSON, states another schema, or breaks the contract.
        """
        record = _parse(text)
        version = record.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ModelError(
                f"the model states spec schema {version!r}, this gclf reads {SCHEMA_VERSION}. "
                "Upgrade it: pip install --upgrade gclf-runtime"
            )
        for name, value in _FIXED.items():
            if record.get(name) != value:
                raise _broken(f"{name} must be {value!r}, got {record.get(name)!r}")
        try:
            channels, height, width = record["input_size"]
            if channels != 3:
                raise ValueError(f"input_size must start with 3 channels, got {channels!r}")
            fit = _take(record, ("fit", "interpolation", "jpeg_scale_margin"))
            values = _take(record, _MODEL_FIELDS)
            for name in ("label_names", "mean", "std"):
                if not isinstance(values[name], list):
                    raise TypeError(f"{name} must be a list, got {values[name]!r}")
                values[name] = tuple(cast(list[Any], values[name]))
            return cls(input=InputSpec(height=height, width=width, **fit), **values)
        except KeyError as error:
            raise _broken(f"{error.args[0]} is missing") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _broken(str(error)) from error


_MODEL_FIELDS = (
    "label_names",
    "mean",
    "std",
    "temperature",
    "precision",
    "metrics",
    "checkpoint_sha256",
    "dataset_sha256",
    "versions",
    "license",
    "created",
)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast(float, value))


def _take(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: record[name] for name in names}


def _broken(reason: str) -> ModelError:
    return ModelError(
        f"the model's {SPEC_KEY} breaks the contract: {reason}. "
        "Export it again: gclf-export RUN/model.pt"
    )


def _parse(text: str) -> dict[str, Any]:
    if len(text) > _MAX_JSON_CHARS:
        raise _broken(f"{len(text)} characters, the limit is {_MAX_JSON_CHARS}")
    try:
        record: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(f"not JSON ({error})") from error
    if not isinstance(record, dict):
        raise _broken(f"a JSON object is needed, got {type(record).__name__}")
    return cast(dict[str, Any], record)
