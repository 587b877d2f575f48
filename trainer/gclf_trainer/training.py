"""From a folder of labelled pictures to a RUN folder; the command is a view of this."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gclf_runtime import InputSpec, ModelSpec
from gclf_trainer.audit import Audit, audit
from gclf_trainer.claim import claimed
from gclf_trainer.datasets import Source, read_source
from gclf_trainer.device import describe, device_of
from gclf_trainer.distillation import read_teacher
from gclf_trainer.errors import DatasetError
from gclf_trainer.evaluation import Normalise
from gclf_trainer.groups import check_cross, read_attributes
from gclf_trainer.job import Job
from gclf_trainer.loop import Training
from gclf_trainer.networks import build
from gclf_trainer.parallel import Ranks, joined
from gclf_trainer.pixels import Dataset, default_cache, load_dataset
from gclf_trainer.recipe import Precision, Recipe
from gclf_trainer.run import Run
from gclf_trainer.state import refuse_other
from gclf_trainer.trained import Trained, measured
from gclf_trainer.transfer import load_weights
from gclf_trainer.view import View

_FACTS = ("device", "device_name", "processes", "pictures", "dataset_sha256", "versions")


def train(
    data: Path,
    output: Path,
    *,
    network: str = "resnet10",
    spec: InputSpec | None = None,
    recipe: Recipe | None = None,
    weights: str = "",
    teacher: Path | None = None,
    dataset_name: str = "",
    download: bool = False,
    class_names: Path | None = None,
    val_split: float = 0.05,
    attributes: Path | None = None,
    cross: Sequence[tuple[str, str]] = (),
    ignore_audit: bool = False,
    device: str = "auto",
    license: str = "",
    cache: Path | None = None,
    command: str = "",
    tensorboard: bool = False,
    resume: bool = False,
    view: View | None = None,
) -> Trained:
    """Train a network on labelled pictures.

    Started by torchrun, every process calls this, and they train together; the first one writes
    and is watched.

    Args:
        data: One folder per class, or `train/`, `val/` and `test/` folders of those, or a .csv of
            path, label and split, or a folder of IDX files; see `gclf_trainer.datasets`.
        output: The RUN folder to write, see `gclf_trainer.run`.
        network: A name in `gclf_trainer.networks.NETWORKS`, torchvision:NAME, or
            package.module:function once `networks.admit` has let it in.
        spec: The model's input; 64×64, stretched, when None.
        recipe: How to train; the defaults when None.
        weights: What the network starts with: DEFAULT (torchvision downloads it), a file, or ""
            for fresh ones; see `gclf_trainer.transfer`.
        teacher: A model.pt of the same classes and input, whose answers are learnt from too.
        dataset_name: torchvision:NAME; `data` is then where torchvision keeps its datasets.
        download: Whether torchvision may download it.
        class_names: A JSON object of class, as found, to the name that it shall have.
        val_split: Fraction of each class held out when there is no `val/`.
        attributes: A .csv with a row per picture, for figures by group in the report.
        cross: Pairs of its columns, for figures by both at once.
        ignore_audit: Train although the audit refuses the dataset.
        device: `auto`, or what torch calls it: `cpu`, `cuda`, `cuda:1`.
        license: Licence of the weights, for the ModelSpec.
        cache: Where decoded pixels are kept; None keeps none.
        command: What repeats the run, for the report.
        tensorboard: Write event files for TensorBoard to RUN/events.
        resume: Go on with the run in `output` after its last whole epoch, to the same weights as
            if it had never stopped (on the same CPU threads: to the bit). A run that is over is
            measured again and left as it is; where there is none yet, one begins. `auto`
            precision is the one that was chosen then.
        view: Watches.

    Raises:
        DatasetError: The pictures cannot be trained on, or the audit refuses them.
        CheckpointError: `weights` cannot be had, or do not fit.
        ValueError: The input is too small for the network.
        RunError: `output` holds a run already, or one begun otherwise, or is being written by
            another training, or cannot be made.
        OSError: The run cannot be written; it can be resumed.
        ProviderError: The device is not there.
        TrainingError: The loss is no longer a number.
    """
    spec, recipe = spec or InputSpec(), recipe or Recipe()
    seed = recipe.seed
    with joined() as ranks, contextlib.ExitStack() as held:
        view = view if view and ranks.is_first else View()
        place = device_of(device, ranks)
        run = ranks.from_first(lambda: _opened(output, held, resume=resume))
        source = Source(path=data, dataset=dataset_name, download=download, class_names=class_names)
        keep = cache or default_cache()
        folders = ranks.first_then_others(
            lambda: read_source(
                source, val_split=val_split, seed=seed, keep=keep, on_progress=view.decoding
            )
        )
        dataset = ranks.first_then_others(
            lambda: load_dataset(folders, spec, cache=cache, on_progress=view.decoding)
        )
        torch.manual_seed(seed)
        model = ranks.first_then_others(lambda: build(network, len(dataset.label_names), spec))
        audited = ranks.from_first(lambda: audit(dataset))
        if audited.is_refused and not ignore_audit:
            raise DatasetError(
                f"the audit refuses {data}: {_refusals(audited)}. "
                f"See gclf-train --audit {data}, or train all the same with --ignore-audit"
            )
        table = read_attributes(attributes) if attributes else None
        if table:
            check_cross(table, cross)
        promise = _promise(dataset, spec, license)
        taught_by = read_teacher(teacher, dataset.label_names, spec) if teacher else None
        if weights:
            promise = _transferred(model, network, weights, promise, ranks)
        config: dict[str, Any] = {
            "data": data,
            "network": network,
            "weights": weights,
            "teacher": taught_by.sha256 if taught_by else "",
            "input": asdict(spec),
            "val_split": val_split,
            "device": str(place),
            "device_name": describe(place),
            "processes": ranks.count,
            "label_names": dataset.label_names,
            "pictures": {n: len(s.paths) for n, s in dataset.splits.items()},
            "unreadable": [[str(path), reason] for path, reason in dataset.unreadable],
            "dataset_sha256": dataset.sha256,
            "versions": promise.versions,
        }
        if run.state:
            recipe = replace(recipe, precision=_precision(recipe, run))
            refuse_other(run.config, config | {"recipe": _in_full(recipe)}, output)
        if run.is_finished:
            view.was_finished(output)
            return ranks.from_first(lambda: measured(run.checkpoint, dataset, place))
        normalise = Normalise(promise.mean, promise.std)
        training = Training(
            model, normalise, dataset.train, dataset.val, recipe, place, ranks, taught_by
        )
        recipe = replace(recipe, precision=training.precision)
        view.audited(audited)
        job = Job(
            run,
            dataset,
            training,
            network,
            promise,
            ranks,
            audited,
            table,
            cross,
            command,
            {name: _said(config[name]) for name in _FACTS},
        )
        job.start(config | {"recipe": _in_full(recipe)})
        view.started(dataset, training)
        job.run_epochs(view, tensorboard=tensorboard)
        return ranks.from_first(job.finish)


def _opened(output: Path, held: contextlib.ExitStack, *, resume: bool) -> Run:
    held.enter_context(claimed(output))
    return Run(output, resume=resume)


def _refusals(audited: Audit) -> str:
    return "; ".join(f.line for f in audited.findings if f.severity == "refusal")


def _transferred(
    model: nn.Module, network: str, weights: str, promise: ModelSpec, ranks: Ranks
) -> ModelSpec:
    """Fill the network; pixels are then normalised as its weights were trained with."""
    loaded = ranks.first_then_others(
        lambda: load_weights(model, network, weights, promise.label_names)
    )
    if loaded.normalisation is None:
        return promise
    mean, std = loaded.normalisation
    return replace(promise, mean=mean, std=std)


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value).items()
        return ", ".join(f"{name} {inner}" for name, inner in items)
    return str(value)


def _promise(dataset: Dataset, spec: InputSpec, license: str) -> ModelSpec:
    mean, std = pixel_statistics(dataset.train.pixels_nhwc)
    names = ("gclf-trainer", "torch", "pillow", "numpy")
    return ModelSpec(
        label_names=dataset.label_names,
        input=spec,
        mean=(mean, mean, mean),
        std=(std, std, std),
        dataset_sha256=dataset.sha256,
        versions={name: version(name) for name in names},
        license=license,
    )


def _in_full(recipe: Recipe) -> dict[str, Any]:
    """Spell a recipe out, defaults too."""
    return asdict(replace(recipe, learning_rate=recipe.peak_rate, weight_decay=recipe.decay))


def _precision(recipe: Recipe, run: Run) -> Precision:
    """Return the precision that was chosen when the run began, unless one is asked for."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if run.config.get("recipe", {}).get("precision") == "bf16" else "fp32"


def pixel_statistics(pixels_nhwc: NDArray[np.uint8]) -> tuple[float, float]:
    """Compute mean and standard deviation of all pixels, scaled to 0-1.

    One pair serves all channels, and the mean is a whole level of 255: then an int8 graph takes
    the pixels as they are, its zero point being the mean, and normalises them for nothing
    (per-channel constants cost 70 of 320 µs per picture).

    Args:
        pixels_nhwc: uint8 0-255, shape (N, H, W, 3), N at least 1.

    Returns:
        The mean, and the standard deviation, at least 1/255 also for pictures of one colour.
    """
    levels = np.arange(256)
    counts = sum(np.bincount(picture.ravel(), minlength=256) for picture in pixels_nhwc)
    shares = counts / np.sum(counts)
    mean = round(float(shares @ levels))
    deviation = float(shares @ (levels - mean) ** 2) ** 0.5
    return mean / 255, max(round(deviation), 1) / 255
