import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from gclf_trainer import RunError
from gclf_trainer.events import Events
from gclf_trainer.recipe import Epoch


def epoch(number: int) -> Epoch:
    return Epoch(number, 0.1, 1.0 / number, 0.5, 0.25 * number, 100, 1)


def test_events_can_be_read_back(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingTypeStubs]
        EventAccumulator,
    )

    events = Events(tmp_path)
    events.add(epoch(1))
    events.add(epoch(2))
    events.close()

    read = EventAccumulator(str(tmp_path))
    read.Reload()
    accuracies = [(e.step, e.value) for e in read.Scalars("accuracy/validation")]
    assert accuracies == [(1, 0.25), (2, 0.5)]


def test_an_absent_tensorboard_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with pytest.raises(RunError, match=r"pip install 'gclf-trainer\[tensorboard\]'"):
        Events(tmp_path)
