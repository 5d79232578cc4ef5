"""A network that starts from weights that were trained elsewhere: all but its head, which the classes decide."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from an8flower.errors import Refusal

from .classifier import FORMAT
from .cross_attention import BACKBONE, CrossAttentionPooled
from .files import read_weights
from .heads import find_auxiliary_heads, find_head
from .probing import probe_network
from .prototypes.network import PrototypeNetwork
from .safetensors_files import read_metadata

LAYERS = "features."  # before the names of the layers of some plain networks, which a backbone alone has without it
OURS = "network."  # before the names of a network's tensors in a file that `train` wrote
COUNTER = "num_batches_tracked"  # of a batch norm; early files have none, and nothing is computed from it
NAMED = 3  # examples in a sentence


def load_pretrained(network: nn.Module, path: Path, size: int) -> str:
    """Put the tensors of a safetensors file into a network, and say which were loaded and which were not.

    The head, the linear layer that gives the logits, may be another one in the file or be missing there: then it keeps
    its new weights. Everything else of the network has to be there. What the network lacks is left out.

    Args:
        size: the side in pixels of images that the network takes.

    Raises:
        Refusal: no such file, a pickle, damaged, or weights that fit in part.
    """
    stored, heads = _tensors(path), tuple[str, ...]()
    if isinstance(network, PrototypeNetwork) and not _has_backbone(stored):
        network, stored = network.backbone, {name.removeprefix(LAYERS): values for name, values in stored.items()}
        what = "all of the backbone"
    else:
        network, what = _receiver(network, stored), "its head as well"
        heads = _name_heads(network, size)
    wanted = network.state_dict()
    fitting = [name for name in wanted if name in stored and stored[name].shape == wanted[name].shape]
    anew = [name for name in wanted if name not in fitting]
    lacking = [name for name in anew if not name.startswith(heads) and not name.endswith(COUNTER)] if heads else anew
    if lacking:
        raise Refusal(_say_partly(path, network, stored, wanted, lacking))
    network.load_state_dict({name: stored[name] for name in fitting}, strict=False)
    return _say_loaded(path, fitting, anew, [name for name in stored if name not in wanted], what)


def _receiver(network: nn.Module, stored: Iterable[str]) -> nn.Module:
    """The part of a network that tensors of these names belong to: the backbone, where one has more around it."""
    return network.backbone if isinstance(network, CrossAttentionPooled) and not _has_backbone(stored) else network


def _has_backbone(stored: Iterable[str]) -> bool:
    """Whether tensors of these names belong to a network with a backbone and more around it."""
    return any(name.startswith(f"{BACKBONE}.") for name in stored)


def _name_heads(network: nn.Module, size: int) -> tuple[str, ...]:
    """How the names of the tensors of a network's heads begin."""
    probe = probe_network(network, size)
    return tuple(f"{head}." for head in (find_head(network, probe), *find_auxiliary_heads(network, probe)) if head)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by the names that a bare network gives them."""
    stored = read_weights(path)
    if read_metadata(path).get("format") != FORMAT:
        return stored
    return {name.removeprefix(OURS): tensor for name, tensor in stored.items() if name.startswith(OURS)}


def _say_partly(
    path: Path, network: nn.Module, stored: dict[str, Tensor], wanted: dict[str, Tensor], lacking: list[str]
) -> str:
    """The sentence about weights that do not fit."""
    if pooled := _read_pooled(path):
        base = pooled.partition("+")[0]
        return (
            f"{path}: holds a {pooled}, whose weights are not those of this network; give a plain {base}, or one that "
            "is pooled in the same way"
        )
    if other := [name for name in lacking if name in stored]:
        there, here = (tuple(tensors[other[0]].shape) for tensors in (stored, wanted))
        reason = f"{other[0]} is {there} there and {here} in the network"
    else:
        reason = f"it lacks {_name(lacking)}"
    fitting = f"{len(wanted) - len(lacking)} of its {len(wanted)} tensors"
    return (
        f"{path}: fits {type(network).__name__} in part, in {fitting}, but {reason}; "
        "expected all but those of the last linear layer, by the names in the network"
    )


def _read_pooled(path: Path) -> str:
    """The architecture that a file of ours states, if it is pooled in a way of its own; else nothing."""
    arch = read_metadata(path).get("arch", "").strip('"')
    return arch if "+" in arch else ""


def _say_loaded(path: Path, fitting: list[str], anew: list[str], left_out: list[str], what: str) -> str:
    """The sentence about what was loaded and what was not; `what` is said if nothing is new."""
    new = f"new are {_name(anew)}" if anew else what
    rest = f"; not taken from there: {_name(left_out)}" if left_out else ""
    return f"{path}: {len(fitting)} tensors loaded, {new}{rest}"


def _name(names: Iterable[str]) -> str:
    names = list(names)
    return f"{', '.join(names[:NAMED])}{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}"
