"""RUN/last.pt: all that the rest of a training depends on, as data and never as code."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from gclf_trainer import torch_file
from gclf_trainer.atomic_file import write_whole
from gclf_trainer.errors import RunError
from gclf_trainer.recipe import Epoch

_FORMAT = "gclf-state-1"
# What decides the weights. Not the folder's name, the device or the number of processes: a
# training may move to another machine, where it goes on to nearly the same weights.
_DECISIVE = (
    "network",
    "weights",
    "teacher",
    "input",
    "val_split",
    "recipe",
    "label_names",
    "pictures",
    "dataset_sha256",
    "versions",
)
_NAMED = 5


@dataclass(frozen=True)
class State:
    """A training between two epochs.

    Attributes:
        training: What `Training.state` returned.
        epochs: Every epoch so far, in order.
    """

    training: dict[str, Any]
    epochs: list[Epoch]


def write_state(path: Path, training: Mapping[str, Any], epochs: Sequence[Epoch]) -> None:
    """Keep a training; the one kept before stays until this one is on the disk.

    Raises:
        OSError: It cannot be written.
    """
    record = {
        "format": _FORMAT,
        "training": dict(training),
        "epochs": [asdict(epoch) for epoch in epochs],
    }
    # Through memory: torch's own writer reports a full disk as a RuntimeError of ten lines.
    content = io.BytesIO()
    torch.save(record, content)
    write_whole(path, content.getbuffer())


def read_state(path: Path) -> State:
    """Read what `write_state` kept; nothing in the file is executed.

    Raises:
        RunError: The file is foreign or damaged.
    """
    try:
        fields = cast(dict[str, Any], torch_file.read(path))
        if fields["format"] != _FORMAT:
            raise ValueError(f"its format is {fields['format']!r}, not {_FORMAT!r}")
        return State(fields["training"], [Epoch(**epoch) for epoch in fields["epochs"]])
    except Exception as error:  # zip, pickle and struct errors, a dozen kinds
        raise RunError(
            f"{path} is not the state of a training: {torch_file.reason_of(error)}. Train anew: "
            f"name another --output (a model.pt in {path.parent} is still good)"
        ) from error


def refuse_other(recorded: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a run that was begun in another way.

    Args:
        recorded: Its config.json.
        wanted: What would be written there now.
        folder: The RUN folder, to name it.

    Raises:
        RunError: It names what differs.
    """
    now = cast(dict[str, Any], json.loads(json.dumps(wanted, default=str)))
    found = [
        line for key in _DECISIVE for line in _differences(key, recorded.get(key), now.get(key))
    ]
    if found:
        rest = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise RunError(
            f"{folder} was begun otherwise: {'; '.join(found[:_NAMED])}{rest}. "
            "Resume it with the options and data of its config.json, or name another --output"
        )


def _differences(name: str, before: object, now: object) -> Iterator[str]:
    """Name each value that differs, within records by its path."""
    if isinstance(before, dict) and isinstance(now, dict):
        old, new = cast(dict[str, object], before), cast(dict[str, object], now)
        for key in {**old, **new}:
            yield from _differences(f"{name}.{key}", old.get(key), new.get(key))
    elif before != now:
        yield f"{name} was {_short(before)}, now {_short(now)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:36]} ..."
