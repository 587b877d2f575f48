"""From a folder of labelled pictures to a RUN folder; the command is a view of this."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch

from gclf_runtime import InputSpec
from gclf_trainer import checkpoint
from gclf_trainer.audit import Audit, audit
from gclf_trainer.claim import claimed
from gclf_trainer.datasets import Source, read_source
from gclf_trainer.device import describe, device_of
from gclf_trainer.distillation import read_teacher
from gclf_trainer.errors import DatasetError, RunError
from gclf_trainer.evaluation import Normalise
from gclf_trainer.groups import Attributes, check_cross, group_scores, read_attributes
from gclf_trainer.job import Job
from gclf_trainer.loop import Training
from gclf_trainer.networks import build
from gclf_trainer.parallel import joined
from gclf_trainer.pixels import Dataset, default_cache, load_dataset
from gclf_trainer.promise import as_begun, promise_of, transferred
from gclf_trainer.recipe import Precision, Recipe
from gclf_trainer.run import Run
from gclf_trainer.state import refuse_other
from gclf_trainer.trained import Trained, measured
from gclf_trainer.view import View

_FACTS = (
    "device",
    "device_name",
    "processes",
    "precision",
    "pictures",
    "dataset_sha256",
    "versions",
)


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
        cache: Where decoded pixels are kept; None keeps none. (Pictures of an IDX folder or of
            torchvision are then still written as files to `gclf_trainer.pixels.default_cache`.)
        command: The gclf-train command that repeats the run, for the report; `--precision` is added
            where the recipe left it to be chosen.
        tensorboard: Write event files for TensorBoard to RUN/events.
        resume: Go on with the run in `output` after its last whole epoch, to the same weights as
            if it had never stopped (on the same CPU threads: to the bit). A run that is over is
            left as it is, and measured on validation alone; where there is none yet, one begins.
            `auto` precision is the one that was chosen then, and `weights` are not read again.
        view: Watches.

    Raises:
        DatasetError: The pictures cannot be trained on, or the audit refuses them.
        CheckpointError: `weights` cannot be had, or do not fit.
        ValueError: The input is too small for the network, the batch for the network or the
            processes, or layers are to be frozen that have no weights yet.
        RunError: `output` holds a run already, or one begun otherwise, or is being written by
            another training, or cannot be made, or lies among the pictures.
        OSError: The run cannot be written; it can be resumed.
        ProviderError: The device is not there.
        TrainingError: The loss is no longer a number.
    """
    spec, recipe = spec or InputSpec(), recipe or Recipe()
    seed, asked = recipe.seed, recipe.precision
    _check_frozen(recipe, weights)
    _check_output(output, None if dataset_name else data)
    with joined() as ranks, contextlib.ExitStack() as held:
        view = view if view and ranks.is_first else View()
        place = ranks.first_then_others(lambda: device_of(device, ranks))
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
        audited = ranks.from_first(lambda: _audited(dataset, data, is_ignored=ignore_audit))
        table = ranks.first_then_others(lambda: _attributes(attributes, cross, dataset))
        promise = promise_of(dataset, spec, license)
        taught_by = ranks.first_then_others(
            lambda: read_teacher(teacher, dataset.label_names, spec) if teacher else None
        )
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
            "dataset_sha256": dataset.split_sha256,
            "versions": promise.versions,
        }
        if run.state:
            recipe = replace(recipe, precision=_precision(recipe, run))
            wanted = config | {"recipe": _in_full(recipe)}
            ranks.from_first(lambda: refuse_other(run.config, wanted, output))
            promise = as_begun(promise, run)
        elif weights:
            promise = ranks.first_then_others(lambda: transferred(promise, model, network, weights))
        if run.is_finished:
            view.was_finished(output)
            return ranks.from_first(lambda: _measured_again(run, dataset, place))
        normalise = Normalise(promise.mean, promise.std)
        training = Training(
            model, normalise, dataset.train, dataset.val, recipe, place, ranks, taught_by
        )
        recipe = replace(recipe, precision=training.precision)
        if command and asked == "auto":
            command += f" --precision {training.precision}"
        facts = config | {"precision": training.precision}
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
            {name: _said(facts[name]) for name in _FACTS},
        )
        normalisation = {"mean": promise.mean, "std": promise.std}
        job.start(config | normalisation | {"recipe": _in_full(recipe)})
        view.started(dataset, training)
        job.run_epochs(view, tensorboard=tensorboard)
        return ranks.from_first(job.finish)


def _opened(output: Path, held: contextlib.ExitStack, *, resume: bool) -> Run:
    held.enter_context(claimed(output))
    return Run(output, resume=resume)


def _check_output(output: Path, data: Path | None) -> None:
    """Refuse to write among the pictures, and, as an empty --output would, wherever we are."""
    if data and data.is_dir() and output.resolve().is_relative_to(data.resolve()):
        raise RunError(
            f"--output {output} lies inside DATA, {data}, where it would be taken for pictures. "
            "Name a folder elsewhere"
        )
    if output == Path() and not (output / "last.pt").exists():
        raise RunError("--output is empty, or the current folder. Name a folder: --output RUN")


def _check_frozen(recipe: Recipe, weights: str) -> None:
    if (recipe.freeze or recipe.unfreeze_at) and not weights:
        raise ValueError(
            "fresh weights cannot be frozen: nothing has been learnt yet. Pass --weights DEFAULT "
            "or --weights FILE with --freeze and --unfreeze-at, or neither"
        )


def _audited(dataset: Dataset, data: Path, *, is_ignored: bool) -> Audit:
    """Look the dataset over; refuse it, unless that is to be ignored."""
    audited = audit(dataset)
    if audited.is_refused and not is_ignored:
        refusals = "; ".join(f.line for f in audited.findings if f.severity == "refusal")
        raise DatasetError(
            f"the audit refuses {data}: {refusals}. "
            "See all with the same command and --audit, or train all the same: --ignore-audit"
        )
    return audited


def _attributes(
    path: Path | None, cross: Sequence[tuple[str, str]], dataset: Dataset
) -> Attributes | None:
    """Read the table of attributes, and make sure that it fits what the report will show."""
    if path is None:
        return None
    table, shown = read_attributes(path), dataset.test if dataset.test.paths else dataset.val
    check_cross(table, cross)
    group_scores(table, shown.paths, [False] * len(shown.paths))  # now, not after the last epoch
    return table


def _measured_again(run: Run, dataset: Dataset, place: torch.device) -> Trained:
    best = checkpoint.load(run.checkpoint)
    return measured(run.checkpoint, best, dataset, place, with_test=False)


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        items = cast(Mapping[object, object], value).items()
        return ", ".join(f"{name} {inner}" for name, inner in items)
    return str(value)


def _in_full(recipe: Recipe) -> dict[str, Any]:
    """Spell a recipe out, defaults too."""
    return asdict(replace(recipe, learning_rate=recipe.peak_rate, weight_decay=recipe.decay))


def _precision(recipe: Recipe, run: Run) -> Precision:
    """Return the precision that was chosen when the run began, unless one is asked for."""
    if recipe.precision != "auto":
        return recipe.precision
    begun: object = run.config.get("recipe")
    is_bf16 = isinstance(begun, dict) and cast(dict[str, Any], begun).get("precision") == "bf16"
    return "bf16" if is_bf16 else "fp32"
