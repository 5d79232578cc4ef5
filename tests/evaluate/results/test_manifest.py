"""The manifest: a changed byte is named by its file, and nothing else is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from an8flower.__main__ import main
from an8flower.errors import Refusal
from an8flower.evaluate.results.manifest import OF_RUN, hash_file, renew_page, verify_run, write_manifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a made-up audit, with data beside it."""
    folder = tmp_path / "runs" / "mine"
    for place in ("data/flowers.h5", "runs/mine/models/net.safetensors", *(f"runs/mine/{n}" for n in OF_RUN.values())):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(f"content of {place}".encode() * 100)
    data, weights = tmp_path / "data" / "flowers.h5", folder / "models" / "net.safetensors"
    write_manifest(folder, [data, data], [weights], {"torch": "2"})
    return folder


LISTED = ("../../data/flowers.h5", "models/net.safetensors", *OF_RUN.values())


def changed(folder: Path) -> list[str]:
    return [path for path, state in verify_run(folder).items() if state != "ok"]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="coreutils are not there")
def test_the_digest_is_that_of_coreutils(run: Path) -> None:
    for path in LISTED:
        done = subprocess.run(["sha256sum", run / path], check=True, capture_output=True, text=True)
        assert hash_file(run / path) == done.stdout.split()[0]


@pytest.mark.parametrize("path", LISTED)
def test_one_changed_bit_is_named_by_its_file(run: Path, path: str) -> None:
    assert set(verify_run(run)) == {"manifest.json", *LISTED}
    assert changed(run) == []
    content = bytearray((run / path).read_bytes())
    content[len(content) // 2] ^= 1
    (run / path).write_bytes(content)
    assert changed(run) == [path]
    (run / path).unlink()
    assert verify_run(run)[path] == "MISSING"
    done = CliRunner().invoke(main, ["verify", str(run)])
    assert done.exit_code == 1
    assert f"not as the audit left it: {path} (missing); " in done.stderr


@pytest.mark.parametrize(("key", "value"), [("versions", {"torch": "3"}), ("schema_version", 2), ("more", 1)])
def test_an_edited_manifest_is_named(run: Path, key: str, value: object) -> None:
    place = run / "manifest.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), key: value}))
    assert changed(run) == ["manifest.json"]


def test_data_and_runs_may_be_moved_together(run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("data", "runs"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert changed(tmp_path / "elsewhere" / "runs" / "mine") == []


def test_a_page_that_is_written_again_is_entered_and_nothing_else(run: Path) -> None:
    for name in ("report.html", "plan.json"):
        (run / name).write_text("other")
    renew_page(run)
    assert changed(run) == ["plan.json"]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"files": [1]}', '{"files": [{"path": 1}]}'])
def test_what_is_no_manifest_is_refused_in_a_sentence(run: Path, text: str | None) -> None:
    place = run / "manifest.json"
    place.unlink()
    if text is not None:
        place.write_text(text)
    with pytest.raises(Refusal, match=r"manifest\.json"):
        verify_run(run)


def test_the_command_prints_every_file(run: Path) -> None:
    done = CliRunner().invoke(main, ["verify", str(run)])
    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()] == [["ok", path] for path in verify_run(run)]
    asked = CliRunner().invoke(main, ["verify", "--json", str(run)])
    assert json.loads(asked.stdout)["files"] == verify_run(run)
    assert CliRunner().invoke(main, ["verify", "--leak", str(run)]).exit_code == 2
