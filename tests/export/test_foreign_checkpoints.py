"""A checkpoint is data: what is foreign, damaged or hostile is refused in one line."""

import contextlib
import os
import pickle
import random
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from gclf_runtime import InputSpec
from gclf_trainer import CheckpointError, checkpoint, networks


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("Train one: gclf-train DATA --output RUN")
    return message


@pytest.mark.parametrize("content", [b"", b"a text\n", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "model.pt"
    path.write_bytes(content)

    refused(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_checkpoint_is_refused(run: Path, tmp_path: Path, share: float):
    content = (run / "model.pt").read_bytes()
    path = tmp_path / "model.pt"
    path.write_bytes(content[: int(len(content) * share)])

    refused(path)


class _Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, form: str):
    path, mark = tmp_path / "model.pt", tmp_path / "it ran"
    record = {"format": "gclf-checkpoint-1", "weights": _Hostile(mark)}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(record))
    else:
        torch.save(record, path, _use_new_zipfile_serialization=form == "zip")

    refused(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"network": "absent"},
        {"network": 3},
        {"weights": {}},
        {"weights": []},
        {"spec": "{}"},
        {"spec": None},
        {"spec": "[" * 100_000},
    ],
    ids=str,
)
def test_a_record_of_another_kind_is_refused(run: Path, tmp_path: Path, change: dict[str, Any]):
    record = torch.load(run / "model.pt", weights_only=True)
    path = tmp_path / "model.pt"
    torch.save(record | change, path)

    refused(path)


@pytest.mark.parametrize("value", [torch.zeros(2), torch.zeros(3, 191), "text", None, 1], ids=str)
def test_weights_of_other_shapes_are_refused(run: Path, tmp_path: Path, value: Any):
    record = torch.load(run / "model.pt", weights_only=True)
    record["weights"]["classifier.weight"] = value
    path = tmp_path / "model.pt"
    torch.save(record, path)

    refused(path)


def test_flipped_bits_are_refused_or_change_nothing_but_weights(run: Path, tmp_path: Path):
    content = (run / "model.pt").read_bytes()
    chance, path = random.Random(0), tmp_path / "model.pt"
    names = [entry.filename for entry in zipfile.ZipFile(run / "model.pt").infolist()]
    ends = [0, content.index(names[-1].encode()), len(content) - 1]
    positions = [chance.randrange(low, high) for low, high in pairwise(ends)] * 10
    positions += [chance.randrange(3000) for _ in range(20)]
    positions += [len(content) - 1 - chance.randrange(3000) for _ in range(20)]
    for position in positions:
        damaged = bytearray(content)
        damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            assert len(checkpoint.load(path).spec.label_names) == 3


def test_a_small_file_that_claims_a_huge_input_allocates_nothing(run: Path, tmp_path: Path):
    spec = checkpoint.load(run / "model.pt").spec
    path = tmp_path / "model.pt"
    checkpoint.save(path, "mlp", networks.build("mlp", 3, spec.input), spec)
    record = torch.load(path, weights_only=True)
    huge = replace(spec, input=InputSpec(height=4096, width=4096))  # 25.8 GB of weights
    torch.save(record | {"spec": huge.to_json()}, path)

    assert "its hidden.1.weight is of shape (128, 3072), mlp of its spec has" in refused(path)


def test_a_tensor_that_repeats_one_number_is_refused(run: Path, tmp_path: Path):
    record = torch.load(run / "model.pt", weights_only=True)
    record["weights"]["classifier.weight"] = torch.zeros(1).expand(3, 192)
    torch.save(record, tmp_path / "model.pt")

    assert "classifier.weight repeats fewer numbers than it has" in refused(tmp_path / "model.pt")


def test_an_archive_that_unpacks_to_more_than_it_is_is_not_unpacked(tmp_path: Path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/data.pkl", bytes(50_000_000))

    assert "it unpacks to 50,000,000 bytes, more than it has" in refused(path)


@pytest.mark.parametrize(
    "dtype", [torch.complex64, torch.int8, torch.bool], ids=["complex", "int8", "bool"]
)
def test_numbers_of_another_kind_are_refused(run: Path, tmp_path: Path, dtype: torch.dtype):
    record = torch.load(run / "model.pt", weights_only=True)
    weights = record["weights"]
    weights["classifier.weight"] = weights["classifier.weight"].to(dtype)
    torch.save(record, tmp_path / "model.pt")

    said = refused(tmp_path / "model.pt")

    assert f"its classifier.weight is {dtype}, resnet10 has torch.float32" in said


def test_half_precision_weights_are_weights(run: Path, tmp_path: Path):
    record = torch.load(run / "model.pt", weights_only=True)
    record["weights"]["classifier.weight"] = record["weights"]["classifier.weight"].half()
    torch.save(record, tmp_path / "model.pt")

    assert checkpoint.load(tmp_path / "model.pt").network.state_dict()["classifier.weight"].shape


def test_the_reasons_are_our_own_words(run: Path, tmp_path: Path):
    path = tmp_path / "model.pt"
    torch.save({"weights": _Hostile(tmp_path / "it ran")}, path)
    code = refused(path)
    path.write_text("a text of some lines\n" * 9)
    text = refused(path)
    path.write_bytes((run / "model.pt").read_bytes()[:99_999])
    cut = refused(path)
    torch.save(torch.load(run / "model.pt", weights_only=True) | {"spec": "{}"}, path)
    spec = refused(path)

    assert "(it holds code, not weights; it was not run)" in code
    assert "(torch.save did not write it)" in text
    assert "(it is cut or damaged, or torch.save did not write it)" in cut
    assert "spec schema None, this gclf reads 1. Train one" in spec
    for said in (code, text, cut, spec):
        assert "weights_only" not in said
        assert "miniz" not in said
        assert said.count("Train one") == 1
        assert "gclf-export" not in said
        assert "Upgrade" not in said
