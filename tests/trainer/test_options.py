"""What the command refuses of its options, before anything is read."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gclf_trainer import Augmentation, Recipe
from gclf_trainer.cli import app

NUMBERS = [
    option.opts[0]
    for option in typer.main.get_command(app).params
    if option.type.name.startswith("float")
]


def refused(*arguments: str) -> str:
    """Return what is said of arguments that are wrong, on one line."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "500"})
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_is_refused(name: str, value: str):
    assert name in refused("data", "--output", "run", name, value)


def test_all_numbers_were_tried():
    assert {"--rotate", "--mixup", "--ema", "--temperature", "--val-split"} <= set(NUMBERS)
    assert len(NUMBERS) == 18


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("name", ["rotate", "mixup", "zoom"])
def test_an_augmentation_of_no_number_is_refused(name: str, value: float):
    numbers: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        Augmentation(**numbers)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        ({"clip_norm": float("inf")}, "clip_norm must be a finite number"),
        ({"seed": 2**63}, "seed must be from 0 to 9223372036854775807"),
        ({"seed": -1}, "seed must be from 0 to"),
    ],
    ids=str,
)
def test_a_recipe_of_no_number_is_refused(numbers: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Recipe(**numbers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "99999999999999999999999"], "--seed"),
        (["--size", "100000"], "--size"),
        (["--distill", "0.5"], "goes with --teacher FILE"),
        (["--temperature", "2"], "goes with --teacher FILE"),
        (["--teacher-network", "resnet10"], "goes with --teacher FILE"),
        (["--data-dir", "here"], "goes with --dataset torchvision:NAME"),
    ],
    ids=" ".join,
)
def test_an_option_that_means_nothing_is_refused(arguments: list[str], message: str):
    assert message in refused("data", "--output", "run", *arguments)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_wrong_options_are_exit_code_2_in_each_process_of_torchrun(rank: str):
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "none", "RANK": rank}
    command = [Path(sys.executable).with_name("gclf-train"), "data", "--seed", "-1"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)

    assert result.returncode == 2
    assert bool(result.stderr) == (rank == "0")
