"""A trained network to certified files: built, measured, admitted, and only then given their names.

It does not know where the network and the pictures come from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gclf_export import golden
from gclf_export.card import Score, card
from gclf_export.certificate import Rung, Witness, as_record, to_json
from gclf_export.delivery import Delivery, require_places
from gclf_export.errors import ExportError, without_remedy
from gclf_export.graph import Deployable, to_onnx
from gclf_export.half import to_half
from gclf_export.inspection import CERTIFICATE_KEY
from gclf_export.int8 import best_int8
from gclf_export.ladder import Ladder, Step, pick
from gclf_export.listing import load_all
from gclf_export.precision import DEFAULT_MAX_DROP, REDUCED, Choice, Precision
from gclf_runtime import Classifier, ModelError, ModelSpec
from gclf_runtime.spec import SPEC_KEY
from gclf_trainer.checkpoint import Checkpoint
from gclf_trainer.folders import LabelledFiles


@dataclass(frozen=True)
class Exported:
    """A certified file.

    Attributes:
        path: Where it is.
        size_bytes: How large.
        parameters: Weights of its network.
        spec: What it promises.
        rungs: How it compares with the checkpoint, one for each provider of this machine.
        card: The model card beside it.
    """

    path: Path
    size_bytes: int
    parameters: int
    spec: ModelSpec
    rungs: tuple[Rung, ...]
    card: Path


@dataclass(frozen=True)
class Export:
    """What an export wrote, and what it did not.

    Attributes:
        written: The files, in the order asked for.
        refused: By precision, why one that was asked for is not among them.
        certificate: Everything that was measured; it travels in each file.
    """

    written: tuple[Exported, ...]
    refused: Mapping[str, str]
    certificate: Mapping[str, Any]


@dataclass(frozen=True)
class Order:
    """What to make.

    Attributes:
        trained: The network and its spec.
        output: The file, or what the files' names are made from.
        pictures: Validation pictures, at least one.
        calibration: Gives training pictures for int8; raises an ExportError where there are none.
        precisions: Which, at least one.
        max_drop: How much accuracy a reduced precision may cost, 0-1.
        is_own_split: Whether the pictures are those that the training validated on.
        groups: Accuracy by groups of pictures, for the card.
        source: The checkpoint's file, which is never written over.
    """

    trained: Checkpoint
    output: Path
    pictures: LabelledFiles
    calibration: Callable[[], LabelledFiles]
    precisions: Sequence[Choice] = ("fp32",)
    max_drop: float = DEFAULT_MAX_DROP
    is_own_split: bool = False
    groups: Sequence[Score] = ()
    source: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 1:  # so written that what is no number fails too
            raise ValueError(f"max_drop must be a number from 0 to 1, got {self.max_drop}")
        if not self.precisions:
            raise ValueError("precisions must name at least one")

    @property
    def reduced(self) -> list[Precision]:
        """The precisions to try beside fp32, which is always made: the others are timed by it."""
        return [p for p in REDUCED if p in self.precisions or "auto" in self.precisions]

    def require_places(self) -> None:
        """See that every name that may come of it can be written.

        Raises:
            ExportError: One cannot.
        """
        models = possible_files(self.output, self.precisions)
        require_places(models, map(_card_path, models), source=self.source)


@dataclass
class _Drafts:
    """Models before they have names, and what was found of them."""

    models: dict[Precision, onnx.ModelProto] = field(default_factory=dict[Precision, Any])
    steps: dict[Precision, Step] = field(default_factory=dict[Precision, Step])


def produce(order: Order) -> Export:
    """Make, certify and write.

    Raises:
        ExportError: The fp32 file does not answer as the network does, no precision asked for was
            admitted, or a file cannot be written. Older files are then as they were; where the
            disk fails between two of them, it says which are new.
    """
    order.require_places()
    if not order.output.parent.is_dir():
        raise ExportError(f"no folder at {order.output.parent}. Make it, or name another --output")
    spec = replace(
        order.trained.spec,
        checkpoint_sha256=order.trained.sha256 or order.trained.spec.checkpoint_sha256,
        versions={**order.trained.spec.versions, **_versions()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    witness = Witness(order.trained, order.pictures)
    with Delivery(order.output) as delivery:
        try:
            drafts, ladder = _climb(order, spec, witness, delivery)
            chosen, refused = _choose(order, drafts, ladder)
            rungs = [rung for step in drafts.steps.values() for rung in step.rungs]
            refusals = {s.precision: s.refusal for s in drafts.steps.values() if s.refusal}
            classes = len(spec.label_names)
            text = to_json(rungs, refusals, max_drop=order.max_drop, classes=classes)
            finished = {p: _finish(order, delivery, spec, drafts, p, text) for p in chosen}
        except ModelError as error:
            raise ExportError(
                f"what was exported does not work: {delivery.named(without_remedy(error))}. "
                "Nothing was written; report it with the network"
            ) from error
        certificate = as_record(rungs, refusals, max_drop=order.max_drop, classes=classes)
        names = name_files(order.output, order.precisions, chosen)
        files = [
            _with_card(order, delivery, names[p], drafts.steps[p], *finished[p], certificate)
            for p in chosen
        ]
        finals: dict[str, Path] = {**names}
        order.require_places()  # again: an export takes minutes
        delivery.deliver(finals | {f"{p}.card": _card_path(names[p]) for p in chosen})
    return Export(tuple(files), refused, certificate)


def _card_path(model: Path) -> Path:
    """Name the card beside a model; only .onnx gives way, or m.v1.0 and m.v1.1 would share one."""
    stem = model.stem if model.suffix.lower() == ".onnx" else model.name
    return model.with_name(f"{stem}.card.md")


def _with_card(
    order: Order,
    delivery: Delivery,
    path: Path,
    step: Step,
    spec: ModelSpec,
    draft: Path,
    certificate: Mapping[str, Any],
) -> Exported:
    data = draft.read_bytes()
    is_own = _is_own_split(order, step.rungs[0])
    text = card(path.name, data, spec, certificate, order.groups, is_own_split=is_own)
    delivery.write(f"{step.precision}.card", text.encode())
    parameters = sum(p.numel() for p in order.trained.network.parameters())
    return Exported(path, len(data), parameters, spec, step.rungs, _card_path(path))


def _climb(
    order: Order, spec: ModelSpec, witness: Witness, delivery: Delivery
) -> tuple[_Drafts, Ladder]:
    drafts = _Drafts()
    model = to_onnx(Deployable(order.trained).eval(), spec.input)
    base = _draft(delivery, drafts, spec, "fp32", model)
    ladder = Ladder(witness, base, max_drop=order.max_drop)
    drafts.steps["fp32"] = first = ladder.first()
    if first.refusal:
        raise ExportError(
            f"the exported file is not the checkpoint: {first.refusal}. "
            "Nothing was written; report it with the checkpoint"
        )
    for precision in order.reduced:
        if reason := ladder.why_not(precision):
            drafts.steps[precision] = Step(precision, (), reason)
            continue
        try:
            reduced = _reduce(order, spec, model, precision)
        except ExportError as error:
            drafts.steps[precision] = Step(precision, (), str(error))
            continue
        except Exception as error:  # the quantisers', of any kind; the fp32 file is sound
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            drafts.steps[precision] = Step(precision, (), f"it cannot be made ({reason})")
            continue
        path = _draft(delivery, drafts, spec, precision, reduced)
        drafts.steps[precision] = ladder.climb(precision, path)
    return drafts, ladder


def _reduce(
    order: Order, spec: ModelSpec, model: onnx.ModelProto, precision: Precision
) -> onnx.ModelProto:
    if precision != "int8":
        return to_half(model, "fp16" if precision == "fp16" else "bf16")
    files = order.calibration()
    pixels_nhwc = load_all(files.paths, spec.input)
    labels_n = np.asarray(files.labels)
    return best_int8(model, spec, pixels_nhwc, labels_n, max_drop=order.max_drop).model


def _draft(
    delivery: Delivery,
    drafts: _Drafts,
    spec: ModelSpec,
    precision: Precision,
    model: onnx.ModelProto,
) -> Path:
    drafts.models[precision] = model
    own = replace(spec, precision=precision)
    return delivery.write_model(precision, model, {SPEC_KEY: own.to_json()})


def _choose(
    order: Order, drafts: _Drafts, ladder: Ladder
) -> tuple[list[Precision], dict[str, str]]:
    """Return what to write, and why of what was asked for something is not."""
    steps = drafts.steps
    wanted: dict[Precision, None] = {}
    refused: dict[str, str] = {}
    for choice in order.precisions:
        if choice == "auto":
            picked = pick(list(steps.values()), ladder.devices)
            for device, precision in picked.items():
                wanted[precision] = None
                _mark(drafts, precision, f"auto: the fastest admitted on {device.upper()}")
        elif steps[choice].refusal:
            refused[choice] = steps[choice].refusal
        else:
            wanted[choice] = None
    if not wanted:
        reasons = "; ".join(f"{precision}: {reason}" for precision, reason in refused.items())
        raise ExportError(f"nothing was written. {reasons}. Export fp32, or --precision auto")
    return list(wanted), refused


def _mark(drafts: _Drafts, precision: Precision, note: str) -> None:
    step = drafts.steps[precision]
    rungs = tuple(replace(rung, verdict=f"{rung.verdict}; {note}") for rung in step.rungs)
    drafts.steps[precision] = replace(step, rungs=rungs)


def name_files(
    output: Path, asked: Sequence[Choice], chosen: Sequence[Precision]
) -> dict[Precision, Path]:
    """Give a single file the output's name; where several were asked for, with the precision."""
    if len(chosen) == 1 and len({*asked}) == 1:
        return {chosen[0]: output}
    return {p: output.with_name(f"{output.stem}.{p}{output.suffix}") for p in chosen}


def possible_files(output: Path, asked: Sequence[Choice]) -> list[Path]:
    """List every name that `name_files` may give, whatever will be chosen."""
    all_of_them: tuple[Precision, ...] = ("fp32", *REDUCED)
    possible: list[Precision] = [p for p in all_of_them if p in asked or "auto" in asked]
    several, single = name_files(output, asked, possible), name_files(output, asked, possible[:1])
    return list(dict.fromkeys([*several.values(), *single.values()]))


def _is_own_split(order: Order, rung: Rung) -> bool:
    """Tell whether the training measured these pictures: a listing may have been edited since.

    Another machine rounds otherwise, so that a few answers to the very same pictures may differ.
    """
    known = order.trained.spec.metrics
    if not order.is_own_split or known.get("val_count") != rung.count:
        return False
    return abs(known.get("val_accuracy", -1) - rung.checkpoint_accuracy) <= max(
        0.01, 1.5 / rung.count
    )


def _finish(
    order: Order,
    delivery: Delivery,
    spec: ModelSpec,
    drafts: _Drafts,
    precision: Precision,
    certificate: str,
) -> tuple[ModelSpec, Path]:
    """Write a draft anew with all that it carries, and see that it opens."""
    rung = drafts.steps[precision].rungs[0]
    measured = {"val_accuracy": rung.accuracy, "val_count": rung.count}
    known = {  # what was measured on other pictures would be read as of these
        name: value
        for name, value in spec.metrics.items()
        if not name.startswith("val_") or _is_own_split(order, rung)
    }
    spec = replace(spec, precision=precision, metrics=known | measured)
    model = drafts.models[precision]
    path = delivery.write_model(precision, model, {SPEC_KEY: spec.to_json()})
    pictures = golden.pictures()
    predictions = Classifier(path, device="cpu").predict_images(pictures.values())
    answers = [prediction.probabilities_k for prediction in predictions]
    metadata = {
        SPEC_KEY: spec.to_json(),
        golden.GOLDEN_KEY: golden.to_json(
            pictures, answers, golden.TOLERANCE[precision], spec_json=spec.to_json()
        ),
        CERTIFICATE_KEY: certificate,
        "names": str(dict(enumerate(spec.label_names))),  # as Ultralytics writes and reads it
    }
    path = delivery.write_model(precision, model, metadata)
    Classifier(path, device="cpu")
    return spec, path


def _versions() -> dict[str, str]:
    packages = ("gclf-export", "onnx", "onnxscript")
    return {package: version(package) for package in packages}
