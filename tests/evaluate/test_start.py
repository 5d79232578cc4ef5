"""What a command loads before its first result: sets of modules, and not times, which depend on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from an8flower.evaluate.models.classifier import build
from an8flower.store import FlowerStore

PROGRAM = """
import json, sys
from an8flower.__main__ import main
from an8flower.evaluate.explaining import explain as module

loaded = {}
explain = module.explain

def note(*arguments, **options):
    loaded.setdefault("first explanation of " + words[0], sorted(sys.modules))
    return explain(*arguments, **options)

module.explain = note
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        main(prog_name="an8flower")
    except SystemExit as end:
        assert not end.code, end.code
    loaded[words[0]] = sorted(sys.modules)
json.dump(loaded, open("loaded.json", "w"))
"""
COMPILERS = {"torch._dynamo", "torch._inductor", "sympy", "numba"}
TABLES = {"pandas", "pyarrow", "scipy"}
STATISTICS = {"scipy.stats", "scipy.ndimage"}
PICTURES = {"torchvision", "skimage", "matplotlib"}


def test_a_first_explanation_and_a_first_score_load_no_more_than_they_want(small_file: Path, tmp_path: Path) -> None:
    store = FlowerStore(small_file)
    build("flowernet", store.class_names, store.size, seed=0).save(tmp_path / "net.safetensors")
    named = ["--data", str(small_file), "--model", "net.safetensors", "--method", "gradcam"]
    commands = [["explain", *named, "--row", "0"], ["score", *named, "--metric", "iou", "--rows", "2", "-o", "scores"]]
    subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(commands)], check=True, cwd=tmp_path, capture_output=True)
    loaded = {command: set(modules) for command, modules in json.loads((tmp_path / "loaded.json").read_text()).items()}
    assert "torch" in loaded["explain"]
    assert not loaded["explain"] & (COMPILERS | TABLES | PICTURES)
    soon = loaded["first explanation of score"]
    assert soon & {*STATISTICS, *(COMPILERS - {"numba"}), *PICTURES} == set()
    assert not loaded["score"] & ((COMPILERS - {"numba"}) | PICTURES)  # numba renders the rows anew
