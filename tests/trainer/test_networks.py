from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from gclf_runtime import InputSpec
from gclf_trainer.networks import NETWORKS, admit, build

OWN = {
    "net": "torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, classes))",
    "narrow": "torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 1))",
    "larger": "torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 96 * 96, classes))",
    "text": "'network'",
    "failing": "{}['absent']",
    "empty": "torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())",
    "lost": "Odd(lambda self, answer: self.absent)",
    "paired": "Odd(lambda self, answer: (answer, answer) if self.training else answer)",
    "dropping": "torch.nn.Sequential(torch.nn.Dropout(), net(classes, spec))",
}
ODD = """
class Odd(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.inner, self.answer = net(3, None), answer

    def forward(self, pixels):
        return self.answer(self, self.inner(pixels))

def nothing():
    return net(3, None)
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module in the folder we are in; what it adds is forgotten after."""
    functions = [f"def {name}(classes, spec):\n    return {code}\n" for name, code in OWN.items()]
    (tmp_path / "own_networks.py").write_text("import torch\n" + "\n".join(functions) + ODD)
    (tmp_path / "own_broken.py").write_text("raise OSError('two\\nlines')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # so that it is taken out again
    for name in (*OWN, "nothing"):
        monkeypatch.delitem(NETWORKS, f"own_networks:{name}", raising=False)
    return "own_networks"


@pytest.mark.parametrize("name", ["resnet10", "cnn", "resnet9", "mlp"])
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (48, 96)], ids=str)
def test_every_network_answers_any_size_and_batch(name: str, size: tuple[int, int]):
    network = build(name, 5, InputSpec(height=size[0], width=size[1])).eval()

    for count in (1, 3):
        assert network(torch.zeros(count, 3, *size)).shape == (count, 5)


@pytest.mark.parametrize("name", ["resnet10", "cnn", "resnet9", "mlp"])
def test_every_weight_learns(name: str):
    network = build(name, 3, InputSpec()).train()
    network(torch.randn(8, 3, 64, 64)).square().sum().backward()

    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.any()), parameter_name


def test_the_tutorial_network_refuses_pictures_that_pooling_would_lose():
    with pytest.raises(ValueError, match="at least 16×16 pixels, got 8×8"):
        build("cnn", 2, InputSpec(height=8, width=8))


def test_the_mlp_is_the_tutorials():
    network = build("mlp", 10, InputSpec(height=28, width=28))

    sizes = [tuple(parameter.shape) for parameter in network.parameters()]
    assert sizes == [(128, 3 * 28 * 28), (128,), (10, 128), (10,)]


def test_own_code_is_imported_when_asked_for_and_never_by_a_build(own_code: str):
    name = f"{own_code}:net"
    with pytest.raises(ValueError, match=f"was not asked for. Pass --network {name}"):
        build(name, 3, InputSpec())

    admit(name)

    assert build(name, 3, InputSpec())(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    assert build(name, 3, InputSpec()).training


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg", "vgg is not one of resnet10, cnn, .*, torchvision:NAME, package.module:function"),
        ("own_networks:absent", "cannot be imported .AttributeError"),
        ("own_broken:net", "cannot be imported .OSError: two lines"),
        ("no_such_module:net", "cannot be imported .ModuleNotFoundError"),
        ("own_networks:__name__", "is no function. Name one of .classes, spec. -> torch.nn.Module"),
        ("torchvision:resnet19", "no classification network 'resnet19'. Try"),
        ("torchvision:fcn_resnet50", "no classification network"),
        ("torchvision:vit_b_16", "needs operators that no exported file may have. Try"),
    ],
)
def test_what_is_no_network_says_so(own_code: str, name: str, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        admit(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_networks:narrow", r"answers two pictures by \(2, 1\). Return logits \(2, 3\)"),
        ("own_networks:larger", "cannot take 64×64 pixels .*Try another --size"),
        ("own_networks:text", "returned str. Return a torch.nn.Module"),
        ("own_networks:failing", r"failed for 3 classes .*KeyError: 'absent'.* Name a function of"),
        ("own_networks:nothing", "failed for 3 classes .*TypeError.* Name a function of"),
        ("own_networks:empty", "without weights. Return one that can learn"),
        ("own_networks:lost", "cannot take 64×64 pixels .AttributeError"),
        ("own_networks:paired", r"answers two pictures by tuple in training. Return logits \(2, 3"),
    ],
)
def test_own_code_that_does_not_classify_says_so(own_code: str, name: str, message: str):
    admit(name)

    with pytest.raises(ValueError, match=message):
        build(name, 3, InputSpec())


def test_own_code_is_tried_without_a_trace(own_code: str):
    admit(f"{own_code}:dropping")
    torch.manual_seed(0)
    network = build(f"{own_code}:dropping", 3, InputSpec())
    after = torch.rand(1)
    torch.manual_seed(0)
    alone = torch.nn.Linear(3 * 64 * 64, 3)

    assert torch.equal(next(network.parameters()), alone.weight)
    assert torch.equal(torch.rand(1), after)
