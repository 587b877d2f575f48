"""Transfer learning: weights from elsewhere, and which of them may change when.

Pure functions on modules. The head of a network is what is made anew for new classes: the whole
`classifier` of `cnn`, VGG and AlexNet, the last layer with weights of all others.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from gclf_trainer import checkpoint, torch_file
from gclf_trainer.errors import CheckpointError
from gclf_trainer.networks import PREFIX

DEFAULT = "DEFAULT"

_Rgb = tuple[float, float, float]
_IMAGENET: tuple[_Rgb, _Rgb] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# With their pretrained weights these two undo ImageNet's normalisation for this one.
_HALF: tuple[_Rgb, _Rgb] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Their head is the whole `classifier`. By name: torchvision takes seconds to import.
_DEEP_HEADED = {
    "gclf_trainer.architectures.Cnn",
    "torchvision.models.alexnet.AlexNet",
    "torchvision.models.vgg.VGG",
}
_NAMED = 3
# Where training scripts keep a state dict among other things.
_STATE_DICTS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class Loaded:
    """What was taken over.

    Attributes:
        with_head: Whether the head was too; it is not when the classes differ.
        normalisation: Mean and standard deviation (RGB, of pixels scaled to 0-1) that the weights
            were trained with; None when the file does not tell.
    """

    with_head: bool
    normalisation: tuple[_Rgb, _Rgb] | None


def load_weights(network: nn.Module, name: str, weights: str, label_names: Sequence[str]) -> Loaded:
    """Fill a fresh network with weights; nothing in a file is executed.

    Args:
        network: What `networks.build(name, ...)` returned.
        name: Its name.
        weights: DEFAULT, which torchvision downloads; or a file: a model.pt of gclf-train of the
            same network, or a state dict (one for torchvision:NAME is taken to be torchvision's).
        label_names: The classes to be learnt; a model.pt of the same keeps its head.

    Raises:
        CheckpointError: They cannot be had, or do not fit the network.
    """
    if weights == DEFAULT:
        return _fill(network, name, _download(name), weights, with_head=False)
    path = Path(weights)
    record = _read(path)
    if not isinstance(record.get("format"), str):
        kept = (record.get(name) for name in _STATE_DICTS)
        inner = next((each for each in kept if isinstance(each, dict)), record)
        return _fill(network, name, _tensors(path, inner), weights, with_head=True)
    known = checkpoint.from_record(path, record)
    if known.network_name != name:
        raise CheckpointError(
            f"{path} holds {known.network_name}, not {name}. Pass --network {known.network_name}"
        )
    same = tuple(label_names) == known.spec.label_names
    loaded = _fill(network, name, known.network.state_dict(), weights, with_head=same)
    return Loaded(loaded.with_head, (known.spec.mean, known.spec.std))


def head(network: nn.Module) -> nn.Module:
    """Return the module that is made anew for new classes."""
    kinds = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(network).__mro__)
    if not _DEEP_HEADED.isdisjoint(kinds):
        return network.get_submodule("classifier")
    return list(_layers(network))[-1]


def trainable_share(epoch: int, *, freeze: bool, unfreeze_at: Sequence[int]) -> float:
    """Return the share (0-1) of the layers before the head that learn in an epoch.

    Args:
        epoch: Counted from 1.
        freeze: Whether only the head learns to begin with; epochs to unfreeze at imply it.
        unfreeze_at: At each of k epochs another k-th of the layers joins, from the head back.
    """
    if unfreeze_at:
        return sum(epoch >= start for start in unfreeze_at) / len(unfreeze_at)
    return 0.0 if freeze else 1.0


def set_trainable(network: nn.Module, share: float) -> None:
    """Let the head and the last `share` (0-1) of the other layers learn, and freeze the rest."""
    in_head = set(head(network).modules())
    others = [layer for layer in _layers(network) if layer not in in_head]
    first = len(others) - round(share * len(others))
    for position, layer in enumerate(others):
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(position >= first)
            if position < first:
                parameter.grad = None


def train_mode(network: nn.Module) -> None:
    """Put a network in training mode, but what is frozen whole in evaluation mode.

    A frozen batch norm keeps its statistics, and frozen layers drop nothing.
    """
    network.train()
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """List the modules that have weights of their own, in the order of their definition."""
    return (m for m in network.modules() if next(m.parameters(recurse=False), None) is not None)


def _download(name: str) -> dict[str, Tensor]:
    if not name.startswith(PREFIX):
        raise CheckpointError(
            f"there are no published weights of {name}. Pass --weights FILE, or --network "
            f"{PREFIX}NAME"
        )
    from torchvision import models  # pyright: ignore[reportMissingTypeStubs]

    chosen: Any = models.get_model_weights(name.removeprefix(PREFIX))["DEFAULT"]
    try:
        found = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights of {name} could not be downloaded ({error}). Fetch {chosen.url} "
            "and pass --weights FILE"
        ) from error
    return _tensors(Path(chosen.url), found)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}. Name a file, or {DEFAULT}")
    try:
        record = torch_file.read(path)
    except (OSError, ValueError) as error:
        raise _foreign(path, f" ({torch_file.reason_of(error)})") from error
    if not isinstance(record, dict):
        raise _foreign(path)
    return cast(dict[str, Any], record)


def _tensors(path: Path, record: object) -> dict[str, Tensor]:
    """Check a state dict, and give its entries the names they have today."""
    if not isinstance(record, dict) or not record:
        raise _foreign(path)
    entries = cast(dict[object, object], record)
    tensors = {k: v for k, v in entries.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if len(tensors) < len(entries):
        raise _foreign(path)
    if all(key.startswith("module.") for key in tensors):  # saved out of DataParallel
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    # densenet's published files are of a time when names had one dot more.
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
    return {old.sub(r"\1\2.", key): value for key, value in tensors.items()}


def _foreign(path: Path, reason: str = "") -> CheckpointError:
    return CheckpointError(
        f"{path} holds no weights as plain tensors{reason}. Save them: "
        "torch.save(network.state_dict(), FILE)"
    )


def _fill(
    network: nn.Module, name: str, weights: Mapping[str, Tensor], source: str, *, with_head: bool
) -> Loaded:
    """Copy weights in; the head's only if asked for and if they fit."""
    own = network.state_dict()
    apex = head(network)
    prefix = next(path for path, module in network.named_modules() if module is apex) + "."
    of_head = {key for key in own if key.startswith(prefix)}
    fits = {k for k in own if k in weights and weights[k].shape == own[k].shape}
    with_head = with_head and of_head <= fits
    wanted = set(own) if with_head else set(own) - of_head
    # Counters of steps are absent from old files; auxiliary classifiers are not built here.
    missing = [k for k in own if k in wanted - fits and not k.endswith("num_batches_tracked")]
    passed_over = (prefix, "aux", "AuxLogits")
    unknown = [k for k in weights if k not in own and not k.startswith(passed_over)]
    if missing or unknown:
        raise CheckpointError(
            f"{source} does not fit {name}: {_some('missing or of another shape', missing)}, "
            f"{_some('unknown', unknown)}. Pass the --network and --size it was made with"
        )
    _check_numbers({key: weights[key] for key in wanted & fits}, own, source)
    # Its own state dict, filled, for that carries the versions that some modules ask for.
    own.update({key: weights[key] for key in wanted & fits})
    network.load_state_dict(own)
    if not name.startswith(PREFIX):
        return Loaded(with_head, None)
    halved = name.removeprefix(PREFIX) in ("googlenet", "inception_v3")
    return Loaded(with_head, _HALF if halved else _IMAGENET)


def _check_numbers(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str) -> None:
    """Refuse what a copy would take without a word: integers of a quantised network, and NaN."""
    for key, tensor in weights.items():
        if tensor.is_floating_point() != own[key].is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{source} holds {key} as {kind}. Name weights of floating-point numbers"
            )
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{source} holds numbers in {key} that are not finite. Name other weights"
            )


def _some(kind: str, keys: Sequence[str]) -> str:
    more = ", ..." if len(keys) > _NAMED else ""
    return f"{len(keys)} {kind}" + (f" ({', '.join(keys[:_NAMED])}{more})" if keys else "")
