"""How networks that learn prototypes are registered: as the network that they stand on, with a recipe of stages."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ...registry import archs
from ..recipe import EPOCHS, LEARNING_RATE
from ..staged_training import StagedRecipe


def register_staged(
    base: str,
    pooling: str,
    network: Callable[[int, int], nn.Module],
    recipe_over: Callable[[int, float], StagedRecipe],
    *,
    layer: str,
    source: str,
) -> None:
    """Register `BASE+POOLING`; what is not named here, such as the normalisation, is as the base was registered.

    Args:
        recipe_over: gives the stages for the epochs and the learning rate of the plain network.
    """
    about = archs[base].about
    recipe = recipe_over(about.get("epochs", EPOCHS), about.get("learning_rate", LEARNING_RATE))
    further = {"layer": layer, "source": source, "pooling": pooling, "recipe": recipe}
    archs.register(f"{base}+{pooling}", **{**about, **further})(network)
