from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from gclf_runtime import InputSpec, ModelSpec
from gclf_trainer import CheckpointError, checkpoint
from gclf_trainer.networks import build
from gclf_trainer.transfer import head, load_weights, set_trainable, train_mode, trainable_share

SPEC = InputSpec(height=32, width=32)
ABC = ("a", "b", "c")
RESNET = "torchvision:resnet18"


def fresh(name: str, classes: int = 3, seed: int = 0, spec: InputSpec = SPEC) -> nn.Module:
    torch.manual_seed(seed)
    return build(name, classes, spec)


def saved(path: Path, name: str, label_names: tuple[str, ...] = ABC, seed: int = 1) -> Path:
    network = fresh(name, len(label_names), seed)
    mean, std = (0.25, 0.25, 0.25), (0.75, 0.75, 0.75)
    spec = ModelSpec(label_names=label_names, input=SPEC, mean=mean, std=std)
    checkpoint.save(path, name, network, spec)
    return path


def same(first: nn.Module, second: nn.Module) -> dict[str, bool]:
    """Say of each weight whether it is equal; of those that start random."""
    other: dict[str, Tensor] = second.state_dict()
    return {k: torch.equal(v, other[k]) for k, v in first.state_dict().items() if v.ndim > 1}


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("resnet18", 512), ("mobilenet_v3_small", 1024), ("efficientnet_b0", 1280)],
)
def test_a_backbone_answers_for_the_classes_at_hand(name: str, inputs: int):
    network = build(f"torchvision:{name}", 5, SPEC).eval()

    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    last = head(network)
    assert isinstance(last, nn.Linear)
    assert (last.in_features, last.out_features) == (inputs, 5)


@pytest.mark.parametrize(
    ("side", "flat"), [(32, 512), (96, 512 * 9), (224, 25088), (256, 512 * 16)]
)
def test_vgg_gets_a_classifier_for_its_feature_map(side: int, flat: int):
    with torch.device("meta"):  # its own classifier has 120 million weights
        network = build("torchvision:vgg11", 5, InputSpec(height=side, width=side))
        answer = network(torch.zeros(2, 3, side, side))

    assert answer.shape == (2, 5)
    assert [type(layer).__name__ for layer in head(network).children()] == [
        "Linear", "ReLU", "Dropout", "Linear",
    ]  # fmt: skip
    assert next(head(network).parameters()).shape == (512, flat)


def test_pictures_too_small_for_a_backbone_say_so():
    with torch.device("meta"), pytest.raises(ValueError, match="VGG cannot take 16×16 pixels"):
        build("torchvision:vgg11", 5, InputSpec(height=16, width=16))
    with pytest.raises(ValueError, match=r"cannot take 8×8 pixels .*Try another --size"):
        build("torchvision:squeezenet1_0", 5, InputSpec(height=8, width=8))


@pytest.mark.parametrize("name", ["cnn", "resnet10", "mlp", RESNET])
def test_a_checkpoint_gives_its_weights_and_keeps_its_head_for_the_same_classes(
    tmp_path: Path, name: str
):
    path = saved(tmp_path / "model.pt", name)
    network = fresh(name)
    loaded = load_weights(network, name, str(path), ABC)

    assert loaded.with_head
    assert loaded.normalisation == ((0.25, 0.25, 0.25), (0.75, 0.75, 0.75))
    assert all(same(network, checkpoint.load(path).network).values())


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "d")], ids=["fewer", "others"])
def test_other_classes_get_a_new_head(tmp_path: Path, names: tuple[str, ...]):
    path = saved(tmp_path / "model.pt", "cnn", names)
    network = fresh("cnn")
    loaded = load_weights(network, "cnn", str(path), ABC)

    assert not loaded.with_head
    taken = same(network, fresh("cnn", seed=1))
    assert taken == {key: key.startswith("features.") for key in taken}
    kept = same(network, fresh("cnn"))
    assert kept == {key: key.startswith("classifier.") for key in kept}


@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "from DataParallel"])
def test_a_state_dict_of_torchvision_fits_but_for_its_thousand_classes(tmp_path: Path, wrap: bool):
    published = fresh(RESNET, 1000, seed=1)
    state: dict[str, Any] = dict(published.state_dict())
    if wrap:
        state = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
    torch.save(state, tmp_path / "resnet18.pth")
    network = fresh(RESNET)
    loaded = load_weights(network, RESNET, str(tmp_path / "resnet18.pth"), ABC)

    assert not loaded.with_head
    assert loaded.normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    taken = {k: v for k, v in same(network, build(RESNET, 3, SPEC)).items() if k != "fc.weight"}
    assert not any(taken.values())
    assert torch.equal(network.state_dict()["conv1.weight"], published.state_dict()["conv1.weight"])


def test_default_weights_are_what_torchvision_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = "torchvision:squeezenet1_1"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    fetched = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    fetched.parent.mkdir(parents=True)
    torch.save(fresh(name, 1000, seed=1).state_dict(), fetched)
    network = fresh(name)
    loaded = load_weights(network, name, "DEFAULT", ABC)

    assert not loaded.with_head
    assert loaded.normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    state = torch.load(fetched, weights_only=True)
    for key, value in network.state_dict().items():
        assert key.startswith("classifier.1.") or torch.equal(value, state[key])


def test_densenets_old_names_are_understood(tmp_path: Path):
    name = "torchvision:densenet121"
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value
        for key, value in fresh(name, 3, seed=1).state_dict().items()
        if "num_batches_tracked" not in key
    }
    torch.save(old, tmp_path / "densenet121.pth")
    network = fresh(name)

    assert load_weights(network, name, str(tmp_path / "densenet121.pth"), ABC).with_head
    assert all(same(network, fresh(name, seed=1)).values())


def test_weights_that_do_not_fit_say_what_is_wrong(tmp_path: Path):
    path = saved(tmp_path / "model.pt", "resnet10")
    torch.save(fresh("cnn").state_dict(), tmp_path / "cnn.pth")
    torch.save([1], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("text")

    for name, weights, message in (
        ("cnn", path, "holds resnet10, not cnn. Pass --network resnet10"),
        ("resnet10", tmp_path / "cnn.pth", "does not fit resnet10: .* missing .* unknown"),
        ("cnn", tmp_path / "list.pth", "holds no weights as plain tensors. Save them"),
        ("cnn", tmp_path / "text.pth", "holds no weights as plain tensors .* Save them"),
        ("cnn", tmp_path / "absent.pth", "no weights at .* Name a file, or DEFAULT"),
        ("cnn", "DEFAULT", "no published weights of cnn. Pass --weights FILE"),
    ):
        with pytest.raises(CheckpointError, match=message) as caught:
            load_weights(fresh(name), name, str(weights), ABC)
        assert "\n" not in str(caught.value)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path):
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"conv1.weight": Payload()}, tmp_path / "weights.pth")

    with pytest.raises(CheckpointError):
        load_weights(fresh("cnn"), "cnn", str(tmp_path / "weights.pth"), ABC)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["cnn", "resnet10", RESNET])
def test_a_frozen_network_changes_in_its_head_alone(name: str):
    network = fresh(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    set_trainable(network, 0.0)
    train_mode(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)  # decays whatever has a gradient
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        network(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()

    apex = head(network)
    prefix = next(path for path, module in network.named_modules() if module is apex) + "."
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]) != key.startswith(prefix), key
    set_trainable(network, 1.0)
    train_mode(network)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())


def test_layers_join_from_the_head_back():
    network = fresh("cnn")
    learning: list[list[bool]] = []
    for epoch in (1, 2, 3, 4):
        set_trainable(network, trainable_share(epoch, freeze=False, unfreeze_at=(2, 4)))
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
        learning.append([m.weight.requires_grad for m in convolutions])

    assert learning == [[False] * 4, [False] * 2 + [True] * 2, [False] * 2 + [True] * 2, [True] * 4]
    assert trainable_share(9, freeze=True, unfreeze_at=()) == 0
    assert trainable_share(1, freeze=False, unfreeze_at=()) == 1
    assert [trainable_share(e, freeze=True, unfreeze_at=(3,)) for e in (2, 3)] == [0, 1]
