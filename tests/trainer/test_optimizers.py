import copy
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from gclf_runtime import InputSpec
from gclf_trainer import Recipe
from gclf_trainer.networks import build
from gclf_trainer.optimizers import optimizer_of
from gclf_trainer.recipe import Optimizer


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_steps_are_those_of_torch_without_fusing(optimizer: Optimizer):
    """Given the same gradients; weights lie in memory as channels_last ones do."""
    recipe = Recipe(optimizer=optimizer)
    network = build("resnet10", 3, InputSpec(height=16, width=16))
    network = network.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(network)
    ours, expected = optimizer_of(network, recipe), optimizer_of(plain, recipe)
    for group in expected.param_groups:
        group["fused"] = False
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for one, other in zip(network.parameters(), plain.parameters(), strict=True):
            one.grad = torch.empty_like(one).normal_(generator=generator)
            other.grad = one.grad.clone()
        ours.step()
        expected.step()

    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_state_of_before_fusing_goes_on_as_it_was():
    recipe = Recipe()
    network = torch.nn.Linear(2, 2)
    optimizer = optimizer_of(network, recipe)
    state: dict[str, Any] = optimizer.state_dict()
    for group in state["param_groups"]:
        group["fused"] = None
    optimizer.load_state_dict(state)

    assert [group["fused"] for group in optimizer.param_groups] == [None, None]
