"""Named things that users and plug-ins add to: one class, and its instances for explainers, metrics and archs.

Whoever asks for `package.module:attribute` changes this process: the current folder is put first on `sys.path`, as
`python -m` does, and stays there, because the user's module may import its neighbours at any later time.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from an8flower.errors import Refusal, WrongUsage
from an8flower.names import unknown

if TYPE_CHECKING:
    from .metrics.metric import Metric


@dataclass(frozen=True)
class Entry:
    """A registered item, and what its owner says of it."""

    name: str
    item: Any
    about: dict[str, Any]  # family, source, needs, ...: what `register` was given besides the name


class Registry:
    """A register of items by their names.

    Built-ins are the modules of one package: they register themselves when that package is imported, on first look-up.
    Third parties name an entry point in the group `an8flower.KIND`, or are asked for as `package.module:attribute`.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._loaded = False

    def register(self, name: str, **about: Any) -> Callable[[Any], Any]:
        """Decorator that files an item under a name; a second owner of a name is refused."""

        def file(item: Any) -> Any:
            if name in self._entries:
                owner = self._entries[name].item
                raise Refusal(
                    f'{self.kind} "{name}" is registered already by {owner!r}; give the other one another name'
                )
            self._entries[name] = Entry(name, item, about)
            return item

        return file

    def names(self) -> list[str]:
        """All names that users can give, plug-ins (listed, not imported) included."""
        self._load_built_ins()
        return sorted({*self._entries, *self._plug_ins()})

    def __getitem__(self, name: str) -> Entry:
        """The entry of a name or of `package.module:attribute`.

        Raises:
            WrongUsage: there is none; gives the nearest name.
            Refusal: it is a plug-in that cannot be loaded.
        """
        self._load_built_ins()
        if name in self._entries:
            return self._entries[name]
        if name in self._plug_ins():
            return self._third_party_entry(name, self._load_plug_in(name))
        if ":" in name:
            return self._third_party_entry(name, import_attribute(name))
        raise WrongUsage(unknown(self.kind, name, self.names()))

    def plug_ins(self) -> list[str]:
        """The names that third parties bring by entry points."""
        return sorted(self._plug_ins())

    def stranger_of(self, name: str) -> str:
        """The name again if a third party's code stands behind it, else an empty text; nothing is imported for it."""
        return name if ":" in name or name in self._plug_ins() else ""

    def _load_plug_in(self, name: str) -> Any:
        """Load what an entry point names: foreign code, which fails in any way it likes."""
        point = self._plug_ins()[name]
        try:
            return point.load()
        except Exception as error:
            raise Refusal(
                f'the plug-in "{name}" ({point.value}) cannot be loaded ({type(error).__name__}: {error}); '
                "mend or uninstall it"
            ) from error

    def _third_party_entry(self, name: str, item: Any) -> Entry:
        """The entry of a third party's item; if the item registered itself, what it said there counts."""
        about = next((entry.about for entry in self._entries.values() if entry.item is item), {"family": "third party"})
        return Entry(name, item, about)

    def _plug_ins(self) -> dict[str, EntryPoint]:
        return _find_plug_ins(entry_points, f"an8flower.{self.kind}s", _read_search_path())

    def _load_built_ins(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")


@lru_cache
def _find_plug_ins(
    find: Callable[..., Iterable[EntryPoint]], group: str, search_path: tuple[tuple[str, int], ...]
) -> dict[str, EntryPoint]:
    """The entry points of a group by their names, looked for once, since a file of every installed package is read."""
    return {point.name: point for point in find(group=group)}


def _read_search_path() -> tuple[tuple[str, int], ...]:
    """Where packages are looked for, with the time at which each folder last got or lost one."""
    folders = ((folder, Path(folder)) for folder in sys.path)
    return tuple((folder, place.stat().st_mtime_ns if place.exists() else 0) for folder, place in folders)


TOOLKIT_ARCHS = ("timm", "torchvision")  # before a colon, they name an architecture of theirs and no code of a user's


def names_code(arch: str) -> bool:
    """Whether an architecture is named as `package.module:factory`, a user's code, which building it would import."""
    return ":" in arch and arch.partition(":")[0] not in TOOLKIT_ARCHS


ELSEWHERE = (*TOOLKIT_ARCHS, "hf", "onnx")  # before a colon, they name a finished network of another toolkit's


def is_from_elsewhere(place: object) -> bool:
    """Whether a model is named as `timm:NAME`, `torchvision:NAME`, `hf:FOLDER` or `onnx:FILE`, and is no file itself.

    >>> is_from_elsewhere("timm:resnet18"), is_from_elsewhere("my_model:network")
    (True, False)
    """
    text = str(place)
    return ":" in text and text.partition(":")[0] in ELSEWHERE and not Path(text).exists()


def takes_weights(place: str | Path) -> bool:
    """Whether a model's name makes a network that weights can be put into: a factory, or a name of a toolkit's."""
    return is_factory(place) and str(place).partition(":")[0] not in ("hf", "onnx")


def to_file_name(arch: str) -> str:
    """An architecture's name as it stands in the names of files: without the colon, which not every system takes."""
    return arch.replace(":", ".")


def model_name(arch: str, seed: int | None, digest: str) -> str:
    """The name of a model in results, from its architecture, its seed and its digest.

    >>> model_name("mine:net", 0, "1a2b3c4d5e6f")
    'mine.net-seed0-1a2b3c4d'
    """
    return f"{to_file_name(arch)}-seed{seed}-{digest[:8]}"


WHOLE_BACKBONE = "backbone"  # what `freeze` calls all of a network but what was put beside it
FROZEN = "frozen"


def variant_of(arch: str, penalty: str, freeze: str = "") -> str:
    """An architecture together with what its training did besides: a penalty, by its first word, a frozen backbone.

    >>> variant_of("resnet18", "cosine, strength 0.0075, gradient of the loss"), variant_of("resnet18", "")
    ('resnet18+cosine', 'resnet18')
    >>> variant_of("resnet18+ca-stream", "", "backbone"), variant_of("resnet18", "", "layer2")
    ('resnet18+ca-stream+frozen', 'resnet18')
    """
    words = [arch, penalty.partition(",")[0], FROZEN if freeze == WHOLE_BACKBONE else ""]
    return "+".join(filter(None, words))


def is_factory(place: str | Path) -> bool:
    """Whether a model's name would be imported as `package.module:factory`, since it has a colon and is no file."""
    return ":" in str(place) and not Path(place).exists()


def search_current_folder() -> None:
    """Let this process import modules from the current folder, now and later; see the top of this file."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def import_attribute(place: str) -> Any:
    """Import the object at `package.module:attribute`, which the user typed; raises WrongUsage where there is none.

    From then on, modules in the current folder are found as well.
    """
    module, _, attribute = place.partition(":")
    search_current_folder()
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # also what the module itself raises while it is imported
        raise WrongUsage(f'"{place}" cannot be imported ({error}); write package.module:attribute') from error


OURS = __name__.rpartition(".")[0] + "."


def is_ours(item: Any) -> bool:
    """Whether the code of an explainer or of a score is part of this package, and not a stranger's."""
    return str(getattr(item, "__module__", None) or type(item).__module__).startswith(OURS)


explainers = Registry("explainer", "an8flower.evaluate.explainers")
metrics = Registry("metric", "an8flower.evaluate.metrics")
archs = Registry("arch", "an8flower.evaluate.models.archs")


def register_explainer(name: str, **about: Any) -> Callable[[Any], Any]:
    """Give the explainer class below this decorator a name that `--method` takes.

    Args:
        name: how users ask for it.
        about: `family`, `source` (the publication), `needs` (what a network has to have, for people), and
            `class_sensitive=False` where the map does not depend on the target.

    Raises:
        Refusal: another explainer has this name.
    """
    return explainers.register(name, **about)


def register_metric(metric: Metric) -> Metric:
    """Give a metric the name on its card, so that `--metric` takes it; returns the metric.

    Raises:
        Refusal: another metric has this name.
    """
    metrics.register(metric.name, family=metric.family, source=metric.source)(metric)
    return metric


def register_arch(name: str, *, layer: str, **about: Any) -> Callable[[Any], Any]:
    """Give the function below this decorator a name that `train` takes; it builds a network for (classes, size).

    Args:
        name: how users ask for it.
        layer: the path of the submodule that CAM-like methods look at.
        about: `family`, `source`, and what training is to do otherwise: `epochs`, `learning_rate`, `normalise`.

    Raises:
        Refusal: another architecture has this name.
    """
    return archs.register(name, layer=layer, **about)
