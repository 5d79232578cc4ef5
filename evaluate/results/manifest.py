"""The manifest of an audit: the sha256 of everything that its page rests on, so that a changed byte is noticed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from an8flower.digests import digest_file
from an8flower.errors import Refusal
from an8flower.gate.documents import read_json
from an8flower.gate.regular import FileKind, check_regular

from .files import write_json

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
OF_RUN = {"plan": "plan.json", "summary": "summary.json", "page": "report.html"}  # the files of the run by their roles
WRITTEN = ("page", "card")  # what is written again from the same summary
CARDS = ("model_card.md", "explanation_card.md")
LISTED = FileKind("a file of a run", 2**50, "put it back, or run the audit again")
KIND = FileKind("the manifest of an audit", 2**24, "run the audit again", "only a finished audit has a manifest")

FileState = Literal["ok", "CHANGED", "MISSING"]


def write_manifest(
    folder: Path,
    data: Iterable[Path],
    weights: Iterable[Path],
    versions: Mapping[str, Any],
    rows: Iterable[Path] = (),
) -> dict[str, Any]:
    """Write `manifest.json` into the folder of a finished audit, and return it.

    Args:
        data: the files of the data sets.
        weights: the files of the models.
        versions: of the code that computed the numbers.
        rows: the files of the long rows that the summary is made of.
    """
    places = [(role, folder / name) for role, name in OF_RUN.items()]
    places += [("data", path) for path in data] + [("weights", path) for path in weights]
    places += [("rows", path) for path in rows]
    places += [("card", path) for name in CARDS if (path := folder / name).is_file()]
    files = [_entry(role, path, folder) for role, path in dict.fromkeys(places)]
    return _write(folder, {"schema_version": SCHEMA_VERSION, "versions": dict(versions), "files": files})


def renew_page(folder: Path) -> bool:
    """Enter a page and cards that were written again from the same summary, and say whether that changes the manifest.

    Where there is no manifest, nothing is done.
    """
    if not (folder / MANIFEST).exists():
        return False
    before = _read(folder)
    files = [_entry(e["role"], folder / e["path"], folder) if e["role"] in WRITTEN else e for e in before["files"]]
    return _write(folder, {**before, "files": files}) != before


def verify_run(folder: Path) -> dict[str, FileState]:
    """The state of every file that the manifest of an audit lists, and of the manifest itself, by their paths.

    Raises Refusal if there is no manifest that can be read.
    """
    manifest = _read(folder)
    states: dict[str, FileState] = {MANIFEST: "ok" if manifest.get("digest") == _digest(manifest) else "CHANGED"}
    return states | {entry["path"]: _state(folder / entry["path"], entry) for entry in manifest["files"]}


def roles_of(folder: Path) -> dict[str, str]:
    """The role of every file that the manifest of an audit lists, by its path; raises Refusal as `verify_run`."""
    return {entry["path"]: entry["role"] for entry in _read(folder)["files"]}


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; raises Refusal for all that is no regular file."""
    check_regular(path, LISTED)
    return digest_file(path)


def _entry(role: str, path: Path, folder: Path) -> dict[str, str]:
    """The line of a file; its path is relative to the folder, so that both may be moved together."""
    return {"role": role, "path": PurePosixPath(Path(_relative(path, folder))).as_posix(), "sha256": hash_file(path)}


def _relative(path: Path, folder: Path) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on another drive of Windows
        return str(path.absolute())


def _state(path: Path, entry: Mapping[str, Any]) -> FileState:
    if not path.is_file():
        return "MISSING"
    return "ok" if hash_file(path) == entry["sha256"] else "CHANGED"


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    document = read_json(path, KIND)
    known = isinstance(document, dict) and isinstance(document.get("files"), list)
    if not known or not all(_is_entry(entry) for entry in document["files"]):
        raise Refusal(f"{path}: not {KIND.noun}; {KIND.remedy}")
    return dict(document)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("role", "path", "sha256"))


def _write(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    document = {**manifest, "digest": _digest(manifest)}
    write_json(folder / MANIFEST, document)
    return document


def _digest(manifest: Mapping[str, Any]) -> str:
    """The sha256 of a manifest without its own digest."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True).encode("ascii")).hexdigest()
