"""Fine-tuned copies of classifiers: made once for a model and a data set, and kept on disk.

They lie beside the model where that is a file, else in the folder of the run, and are models like any other.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from an8flower.errors import Refusal
from an8flower.store import FlowerStore

from ..data.batches import open_rows
from ..models.classifier import Classifier
from ..models.files import read_classifier
from ..models.fine_tuning import RandomRemoval, tune
from ..models.networks.arithmetic import identity_of_arithmetic
from ..models.sources import Source

VERSION = 1  # of how classifiers are fine-tuned: raise it, and that of the metrics that ask, with any change of `tune`
SPLITS = ("train", "val")  # whose rows it takes
IN_MEMORY = 4  # fine-tuned classifiers that are kept in memory


@dataclass(frozen=True, eq=False)
class FineTuner:
    """Fine-tunes classifiers on the training rows of a data set, each once."""

    store: FlowerStore
    files: Mapping[str, Path] = field(default_factory=dict)  # of classifiers, by their digests
    folder: Path | None = None  # for those of classifiers without a file; None: they are not kept on disk
    _memory: OrderedDict[str, Classifier] = field(default_factory=OrderedDict, repr=False)

    def __call__(self, classifier: Classifier, removal: RandomRemoval) -> Classifier:
        """The classifier fine-tuned on images of which something is taken away, in eval mode."""
        identity = self.identity_of(classifier, removal)
        if identity not in self._memory:
            path = self.path_of(classifier, identity)
            with waiting_for_others(path):
                tuned = None if path is None else read_tuned(path, identity, classifier)
                self._memory[identity] = tuned or self._tune(classifier, removal, identity, path)
            while len(self._memory) > IN_MEMORY:
                self._memory.popitem(last=False)
        self._memory.move_to_end(identity)
        return self._memory[identity]

    def identity_of(self, classifier: Classifier, removal: RandomRemoval) -> str:
        """A digest of all that a fine-tuned classifier depends on."""
        words = [VERSION, classifier.digest, self.store.fingerprint, repr(removal)]
        return hashlib.sha256(json.dumps([*words, *identity_of_arithmetic(classifier.device)]).encode()).hexdigest()

    def path_of(self, classifier: Classifier, identity: str) -> Path | None:
        """The path of a fine-tuned classifier: `MODEL.tuned-1a2b3c4d.safetensors`."""
        name = f"tuned-{identity[:8]}.safetensors"
        if file := self.files.get(classifier.digest):
            return file.with_name(f"{file.stem}.{name}")
        return None if self.folder is None else self.folder / "tuned" / name

    def _tune(self, classifier: Classifier, removal: RandomRemoval, identity: str, path: Path | None) -> Classifier:
        """Fine-tune a classifier, and write it down if there is a place for it."""
        rows = [open_rows(self.store, split, classifier.device) for split in SPLITS]
        tuned, before, after = tune(classifier, rows[0], rows[1], removal)
        about = {
            "tuned": repr(removal),
            "tuned_identity": identity,
            "tuned_from": classifier.digest,
            "tuned_loss": f"{before[0]:.4f} before, {after[0]:.4f} after",
            "tuned_accuracy": f"{before[1]:.4f} before, {after[1]:.4f} after",
        }
        tuned.card = replace(classifier.card, accuracy=None, data={**classifier.card.data, **about})
        if path is not None:
            with suppress(Refusal):  # then it is used all the same
                tuned.save(path)
        return tuned


@contextmanager
def waiting_for_others(path: Path | None) -> Iterator[None]:
    """A block that one process at a time enters for a file, so that it is made once; all at once if none can be there.

    Whoever dies in it lets the next one in.
    """
    with ExitStack() as stack:
        if path is not None:
            place = path.with_name(f".{path.name}.lock")
            with suppress(OSError):  # a folder that nobody may write to
                path.parent.mkdir(parents=True, exist_ok=True)
                place.touch()  # where nothing can be written, this says so; the lock would wait for ever
                stack.enter_context(FileLock(place))
                stack.callback(place.unlink, missing_ok=True)
        yield


def read_tuned(path: Path, identity: str, classifier: Classifier) -> Classifier | None:
    """Read a fine-tuned copy of a classifier from a file; None if there is no file, or it holds another one."""
    try:
        card, weights = read_classifier(path)
    except Refusal:
        return None
    if card.data.get("tuned_identity") != identity:
        return None
    tuned = copy.deepcopy(classifier).float()
    try:
        tuned.load_state_dict(weights)
    except RuntimeError:
        return None
    tuned.card = card
    return tuned.eval()


def files_of(sources: Mapping[str, str | Source]) -> dict[str, Path]:
    """The files of the classifiers that lie in one, by their digests, of how users name them."""
    files = {digest: Path(str(source)) for digest, source in sources.items()}
    return {digest: path for digest, path in files.items() if path.is_file()}
