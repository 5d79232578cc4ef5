"""Image classifiers of Hugging Face's transformers, from a folder on disk: `hf:FOLDER`.

Weights are read from safetensors alone, and no code that lies beside them is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.gate.documents import read_json
from an8flower.gate.regular import FileKind

from ..normalisation import NAMES, Normalisation
from .ready import (
    ReadyNetwork,
    import_toolkit,
    mute_toolkit,
    refuse_absent,
    refuse_broken,
    refuse_download,
    three,
    to_name,
)

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
JSON = FileKind("a configuration of transformers", 2**24, "save the model anew with save_pretrained(FOLDER)")
KEPT = ("*.json", "*.safetensors")  # what is fetched of a repository: no code and no pickles
ENDING = "ForImageClassification"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
UNNAMED = "LABEL_"  # how transformers calls classes that nobody named


class LogitsAlone(nn.Module):
    """An image classifier of transformers that gives its logits, and not a record of outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The logits (B, C) of normalised images (B, 3, S, S)."""
        logits: Tensor = self.model(pixel_values=images).logits
        return logits


def open_transformers(name: str) -> ReadyNetwork:
    """Open an image classifier of transformers from its folder, or from the cache of the hub by its name there.

    Raises:
        Refusal: transformers is not installed; no such folder; no image classifier, or one in code of its own; no
            safetensors, or not all weights in them.
    """
    place = f"hf:{name}"
    folder = find_folder(name)
    config = read_json(folder / CONFIG, JSON)
    check_config(place, config)
    if not any((folder / file).is_file() for file in WEIGHTS):
        raise Refusal(f"{place}: holds no {WEIGHTS[0]}; pickles are not read, so save it anew with save_pretrained")
    preprocessor = read_json(folder / PREPROCESSOR, JSON) if (folder / PREPROCESSOR).is_file() else {}
    network = load_model(place, folder)
    size = read_size(preprocessor) or _side(config.get("image_size"))
    return ReadyNetwork(
        LogitsAlone(network), folder_name(name), read_normalisation(preprocessor), size, read_class_names(network)
    )


def fetch_transformers(name: str) -> None:
    """Download configuration and safetensors of a model's repository into the cache of the hub; no code."""
    if not Path(name).is_dir():
        find_snapshot(name, download=True)


def folder_name(name: str) -> str:
    """The name of a model in results: that of its folder, or of its repository."""
    return to_name(Path(name).resolve().name if Path(name).is_dir() else name.rpartition("/")[2])


def find_folder(name: str) -> Path:
    """The folder of a model: on disk, or in the cache of the hub."""
    folder = Path(name)
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            raise Refusal(f"hf:{name}: holds no {CONFIG}; give a folder that save_pretrained wrote")
        return folder
    return find_snapshot(name, download=False)


def find_snapshot(name: str, download: bool) -> Path:
    """The folder of a repository in the cache of the hub; it is fetched if `download` says so."""
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise WrongUsage(f"hf:{name}: no such folder; give a folder that save_pretrained wrote")
    hub = import_toolkit("huggingface_hub")
    try:
        with mute_toolkit():
            return Path(hub.snapshot_download(name, allow_patterns=list(KEPT), local_files_only=not download))
    except Exception as error:  # what the hub and the network raise is theirs
        if download:
            raise refuse_download(f"hf:{name}", error) from None
        raise refuse_absent(f"hf:{name}", "no such folder, and the model is") from None


def check_config(place: str, config: Any) -> None:
    """Raise a Refusal unless a configuration is that of an image classifier in transformers' own code."""
    kinds = config.get("architectures") if isinstance(config, Mapping) else None
    if not (isinstance(kinds, list) and kinds and all(isinstance(kind, str) for kind in kinds)):
        raise Refusal(f"{place}: {CONFIG} names no architecture; save the model anew with save_pretrained")
    if not kinds[0].endswith((ENDING, f"{ENDING}WithTeacher")):
        raise Refusal(f"{place}: holds {kinds[0]}, which is no image classifier; expected one whose name ends {ENDING}")
    known = import_toolkit("transformers")
    if not hasattr(known, kinds[0]):
        reason = "code of its own, which is not run" if "auto_map" in config else "no class of this transformers"
        raise Refusal(f"{place}: {kinds[0]} is {reason}; give it as package.module:factory, or update transformers")


def load_model(place: str, folder: Path) -> nn.Module:
    """Load an image classifier with all its weights.

    Raises:
        Refusal: it cannot be loaded, or weights are missing in the file or have other shapes.
    """
    transformers: Any = import_toolkit("transformers")
    kind = getattr(transformers, read_json(folder / CONFIG, JSON)["architectures"][0])
    try:
        with mute_toolkit():
            model, said = kind.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
    except Exception as error:  # foreign code fails in any way it likes
        raise refuse_broken(place, error) from error
    if lacking := sorted(map(str, [*said["missing_keys"], *said["mismatched_keys"]])):
        raise Refusal(
            f"{place}: its file lacks {len(lacking)} weights of the network ({', '.join(lacking[:3])}), which would be "
            "drawn at random; save the model anew with save_pretrained"
        )
    return model.eval()


def read_class_names(network: Any) -> tuple[str, ...] | None:
    """The names of the classes, where somebody gave them names."""
    named = network.config.id2label
    names = [str(named[index]).strip() for index in range(len(named)) if index in named]
    if len(names) < len(named) or any(name.startswith(UNNAMED) for name in names):
        return None
    return tuple(names)


def read_normalisation(preprocessor: Mapping[str, Any]) -> Normalisation | None:
    """The normalisation of images in [0, 1] that a preprocessor's configuration stands for; None if it says nothing."""
    if not preprocessor:
        return None
    factor = float(preprocessor.get("rescale_factor") or 1 / 255) if preprocessor.get("do_rescale", True) else 1.0
    span = 255 * factor  # what an image that reaches from 0 to 1 spans when it is rescaled from bytes
    none = NAMES["none"]
    plain = not preprocessor.get("do_normalize", True)
    mean, std = (none.mean, none.std) if plain else (preprocessor.get("image_mean"), preprocessor.get("image_std"))
    if mean is None or std is None:
        return None
    return Normalisation(*(tuple(value / span for value in three(values)) for values in (mean, std)))


def read_size(preprocessor: Mapping[str, Any]) -> int | None:
    """The side of the images that a preprocessor makes: of its crop, else of its resizing."""
    crop = preprocessor.get("crop_size") if preprocessor.get("do_center_crop") else None
    return _side(crop) or _side(preprocessor.get("size"))


def _side(size: Any) -> int | None:
    """The side of a square that a configuration names in one of several ways."""
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, list) and size:
        size = size[-1]
    return size if isinstance(size, int) and size > 0 else None
