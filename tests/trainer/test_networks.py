import pytest

pytest.importorskip("torch")

import torch

from gclf_runtime import InputSpec
from gclf_trainer.networks import NETWORKS, build


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (48, 96)], ids=str)
def test_every_network_answers_any_size_and_batch(name: str, size: tuple[int, int]):
    network = build(name, 5, InputSpec(height=size[0], width=size[1])).eval()

    for count in (1, 3):
        assert network(torch.zeros(count, 3, *size)).shape == (count, 5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns(name: str):
    network = build(name, 3, InputSpec()).train()
    network(torch.randn(8, 3, 64, 64)).square().sum().backward()

    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.any()), parameter_name


def test_the_tutorial_network_refuses_pictures_that_pooling_would_lose():
    with pytest.raises(ValueError, match="at least 16×16 pixels, got 8×8"):
        build("cnn", 2, InputSpec(height=8, width=8))
