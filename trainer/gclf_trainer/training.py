"""From a folder of labelled pictures to a RUN folder; the command is a view of this."""

import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gclf_runtime import InputSpec, ModelSpec, ProviderError
from gclf_trainer import checkpoint
from gclf_trainer.evaluation import Evaluation, Normalise, evaluate, logits
from gclf_trainer.folders import read_folders
from gclf_trainer.loop import Epoch, Recipe, Training
from gclf_trainer.networks import build
from gclf_trainer.pixels import Dataset, Split, load_dataset
from gclf_trainer.run import Run


class View:
    """What watches a training; every method does nothing unless overridden."""

    def decoding(self, done: int, total: int) -> None:
        """Pictures are being decoded."""

    def started(self, dataset: Dataset, training: Training) -> None:
        """The first epoch is about to begin."""

    def stepped(self, loss: float) -> None:
        """One batch was learnt from."""

    def epoch_ended(self, epoch: Epoch, *, is_best: bool) -> None:
        """One epoch was trained and measured."""


@dataclass(frozen=True)
class Trained:
    """What came of a training: the best epoch by validation, measured again from its file."""

    checkpoint: Path
    label_names: tuple[str, ...]
    val: Evaluation
    test: Evaluation | None


def train(
    data: Path,
    output: Path,
    *,
    network: str = "resnet10",
    spec: InputSpec | None = None,
    recipe: Recipe | None = None,
    val_split: float = 0.05,
    device: str = "auto",
    license: str = "",
    cache: Path | None = None,
    view: View | None = None,
) -> Trained:
    """Train a network on a folder of labelled pictures.

    Args:
        data: One folder per class, or `train/`, `val/` and `test/` folders of those.
        output: The RUN folder to write, see `gclf_trainer.run`.
        network: A name in `gclf_trainer.networks.NETWORKS`.
        spec: The model's input; 64×64, stretched, when None.
        recipe: How to train; the defaults when None.
        val_split: Fraction of each class held out when there is no `val/`.
        device: `auto`, or what torch calls it: `cpu`, `cuda`, `cuda:1`.
        license: Licence of the weights, for the ModelSpec.
        cache: Where decoded pixels are kept; None keeps none.
        view: Watches.

    Raises:
        DatasetError: The folder cannot be trained on.
        ValueError: The input is too small for the network.
        RunError: `output` holds a run already, or cannot be made.
        ProviderError: The device is not there.
        TrainingError: The loss is no longer a number.
    """
    spec, recipe, view = spec or InputSpec(), recipe or Recipe(), view or View()
    place = _device(device)
    run = Run(output)
    try:
        folders = read_folders(data, val_split=val_split, seed=recipe.seed)
        dataset = load_dataset(folders, spec, cache=cache, on_progress=view.decoding)
        torch.manual_seed(recipe.seed)
        model = build(network, len(dataset.label_names), spec)
    except ValueError:  # a DatasetError, or an input too small for the network
        run.forget()
        raise
    mean, std = pixel_statistics(dataset.train.pixels_nhwc)
    versions = {name: version(name) for name in ("gclf-trainer", "torch", "pillow", "numpy")}
    promise = ModelSpec(
        label_names=dataset.label_names,
        input=spec,
        mean=(mean, mean, mean),
        std=(std, std, std),
        dataset_sha256=dataset.sha256,
        versions=versions,
        license=license,
    )

    training = Training(
        model, Normalise(promise.mean, promise.std), dataset.train, dataset.val, recipe, place
    )
    run.write_config(
        {
            "data": data,
            "network": network,
            "input": asdict(spec),
            "val_split": val_split,
            "device": str(place),
            "device_name": _device_name(place),
            "recipe": asdict(
                replace(
                    recipe,
                    precision=training.precision,
                    learning_rate=recipe.peak_rate,
                    weight_decay=recipe.decay,
                )
            ),
            "label_names": dataset.label_names,
            "pictures": {n: len(s.paths) for n, s in _splits(dataset).items()},
            "unreadable": [[str(path), reason] for path, reason in dataset.unreadable],
            "dataset_sha256": dataset.sha256,
            "versions": versions,
        }
    )
    view.started(dataset, training)
    for _ in range(recipe.epochs):
        epoch = training.run_epoch(view.stepped)
        is_best = run.add(epoch)
        if is_best:
            metrics = {"val_accuracy": epoch.val_accuracy, "val_count": len(dataset.val.paths)}
            promise = replace(promise, metrics=metrics)
            checkpoint.save(run.checkpoint, network, training.network, promise)
        view.epoch_ended(epoch, is_best=is_best)
    return _finish(run, dataset, place)


def _finish(run: Run, dataset: Dataset, place: torch.device) -> Trained:
    """Measure the best epoch from its file; the test split is looked at here and only here."""
    best = checkpoint.load(run.checkpoint)
    network = best.network.to(place).to(memory_format=torch.channels_last)
    normalise = Normalise(best.spec.mean, best.spec.std).to(place)

    def measure(split: Split) -> Evaluation:
        pixels_nhwc = torch.from_numpy(split.pixels_nhwc).to(place)
        return evaluate(logits(network, normalise, pixels_nhwc), torch.from_numpy(split.labels_n))

    val = measure(dataset.val)
    run.finish(dataset, val)
    test = measure(dataset.test) if dataset.test.paths else None
    if test:
        run.write_answers("test.csv", dataset.label_names, dataset.test, test)
    return Trained(run.checkpoint, dataset.label_names, val, test)


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


def _splits(dataset: Dataset) -> dict[str, Split]:
    return {"train": dataset.train, "val": dataset.val, "test": dataset.test}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ProviderError(f"device {name} cannot be used ({reason}). Try --device cpu") from error
    return device


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
