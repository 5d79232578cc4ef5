"""What methods must know of a vision transformer: where its blocks are, how its tokens lie, how it scores a class.

Each family of networks has a file in this package: a function that describes a network of its family, from the
network's own modules, and gives None for any other. A third party adds a family by an entry point in the group
`an8flower.transformers`. A network of no known family is none the less read where torch computes its attention; its
tokens are then taken to be a square grid of patches, behind what is left over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor, nn

from ...registry import Registry

transformers = Registry("transformer", "an8flower.evaluate.models.transformers")


@dataclass(frozen=True)
class Transformer:
    """The places in a vision transformer that methods read. Paths are those of submodules of the network."""

    family: str  # in words, for messages
    target_layer: str  # where CAMs look: the last norm whose tokens of patches the logits depend on
    blocks: tuple[str, ...] = ()  # the modules that give a block's tokens (B, T, D), the first block first
    prefix: int = 0  # tokens before those of the patches: class token, registers
    grid: tuple[int, int] | None = None  # rows and columns of patches; None: no tokens, but maps everywhere
    class_token: bool = False  # whether the first token is one that the logits are read from
    classify: Callable[[Tensor], Tensor] | None = None  # the tokens of the last block -> logits, as the network does it
    obstacle: str = ""  # why attention cannot be followed through the blocks; empty where it can
    channels_last: Callable[[str], bool] = lambda path: False  # whether a layer gives (B, h, w, K) instead of maps

    def __post_init__(self) -> None:
        if self.classify is None and not self.obstacle:
            raise ValueError(f"{self.family}: say with `classify` how tokens are classified, or name the `obstacle`")

    def score(self, tokens: Tensor) -> Tensor:
        """The logits (B, C) of the mean of all tokens (B, T, D) of any block, behind the network's last norm.

        Source: Bousselham et al., arXiv 2404.03214, 2024 (LeGrad); as in the authors' code, the class token counts too.

        Raises:
            NotImplementedError: nobody knows how the network classifies tokens; `obstacle` says why, and methods ask it
                first.
        """
        if self.classify is None:
            raise NotImplementedError(self.family)
        # The network's own way, from tokens that are all the same: whichever of them it reads, it reads the mean.
        return self.classify(tokens.mean(1, keepdim=True).expand(-1, self.prefix + 1, -1))


def follow_obstacle(transformer: Transformer) -> str:
    """Why attention cannot be followed from a class token to the patches; empty where it can."""
    return transformer.obstacle or ("" if transformer.class_token else "classes are not read from a class token")


def describe(network: nn.Module) -> Transformer | None:
    """Describe the vision transformer that a network is, or holds: the outermost one; None where there is none."""
    for path, module in network.named_modules():
        for family in families():
            transformer = family(module)
            if transformer is not None:
                return below(path, transformer)
    return None


@cache
def families() -> tuple[Callable[[nn.Module], Transformer | None], ...]:
    """The functions that describe a network of their family; asked for once, since looking for plug-ins takes long."""
    return tuple(transformers[name].item for name in transformers.names())


def below(path: str, transformer: Transformer) -> Transformer:
    """The description of a transformer as seen from a network that holds it at a path."""
    if not path:
        return transformer
    return replace(
        transformer,
        target_layer=f"{path}.{transformer.target_layer}",
        blocks=tuple(f"{path}.{block}" for block in transformer.blocks),
        channels_last=lambda layer: layer.startswith(f"{path}.") and transformer.channels_last(layer[len(path) + 1 :]),
    )


def is_instance_of(network: nn.Module, name: str) -> bool:
    """Whether a network is of the class `package.module.Class`, without importing it."""
    return any(f"{kind.__module__}.{kind.__qualname__}" == name for kind in type(network).__mro__)
