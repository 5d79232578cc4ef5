"""Signatures of audits: a changed byte, another key or another signature is told, and openssl agrees."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from an8flower.__main__ import main
from an8flower.errors import Refusal
from an8flower.evaluate.results.manifest import OF_RUN, verify_run, write_manifest
from an8flower.evaluate.results.signature import PASSWORD, SIGNATURE, check_signature, open_private_key, open_public_key

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DATA, WEIGHTS = "data.h5", "models/net.safetensors"
BARE = form.NoEncryption()


def write_pair(folder: Path, name: str, encryption: form.KeySerializationEncryption = BARE) -> None:
    """A key and its public half as NAME.pem and NAME.pub.pem."""
    key = Ed25519PrivateKey.generate()
    pem, form_of_key = form.Encoding.PEM, form.PrivateFormat.PKCS8
    (folder / f"{name}.pem").write_bytes(key.private_bytes(pem, form_of_key, encryption))
    public = key.public_key().public_bytes(pem, form.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub.pem").write_bytes(public)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a made-up audit, signed by the key `mine.pem` beside it; `other.pem` did not sign."""
    folder = tmp_path / "run"
    for name in (DATA, WEIGHTS, *OF_RUN.values()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 50)
    write_manifest(folder, [folder / DATA], [folder / WEIGHTS], {"torch": "2"})
    for name in ("mine", "other"):
        write_pair(tmp_path, name)
    done = call("sign", run=folder, key="mine.pem")
    assert done.exit_code == 0, done.output
    return folder


def call(command: str, run: Path, key: str = "", *more: str) -> Result:
    option = "--key" if command == "sign" else "--public-key"
    words = [command, str(run), *([option, str(run.parent / key)] if key else []), *more]
    return CliRunner().invoke(main, words)


def test_the_key_that_signed_is_known_and_no_other(run: Path) -> None:
    done = call("verify", run, "mine.pub.pem")
    assert done.exit_code == 0, done.output
    assert f"ok       {SIGNATURE}" in done.stdout
    assert json.loads(call("verify", run, "mine.pub.pem", "--json").stdout)["signature"] == "ok"
    refused = call("verify", run, "other.pub.pem")
    assert refused.exit_code == 1
    assert f"WRONG    {SIGNATURE}" in refused.stdout
    assert "not signed by" in refused.stderr
    assert f"signed   {SIGNATURE}, by whom is not checked" in call("verify", run).stdout


@pytest.mark.parametrize("name", [DATA, WEIGHTS, *OF_RUN.values()])
def test_a_changed_byte_is_named_also_where_the_signature_holds(run: Path, name: str) -> None:
    content = bytearray((run / name).read_bytes())
    content[7] ^= 1
    (run / name).write_bytes(content)
    done = call("verify", run, "mine.pub.pem")
    assert done.exit_code == 1
    assert f"not as the audit left it: {name} (changed)" in done.stderr


def test_a_manifest_that_fits_again_is_not_what_was_signed(run: Path) -> None:
    """Whoever changes a file can write a manifest that lists it, but not sign it."""
    (run / "summary.json").write_text("{}")
    write_manifest(run, [run / DATA], [run / WEIGHTS], {"torch": "2"})
    assert set(verify_run(run).values()) == {"ok"}
    assert call("verify", run).exit_code == 0
    assert call("verify", run, "mine.pub.pem").exit_code == 1


@pytest.mark.parametrize("bit", [0, 255, 511])
def test_a_changed_signature_is_wrong(run: Path, bit: int) -> None:
    content = bytearray((run / SIGNATURE).read_bytes())
    assert len(content) == 64
    content[bit // 8] ^= 1 << bit % 8
    (run / SIGNATURE).write_bytes(content)
    assert check_signature(run, open_public_key(run.parent / "mine.pub.pem")) == "WRONG"
    (run / SIGNATURE).write_bytes(content[:-1])
    assert check_signature(run, open_public_key(run.parent / "mine.pub.pem")) == "WRONG"


def test_a_run_without_a_signature_is_told(run: Path) -> None:
    (run / SIGNATURE).unlink()
    assert SIGNATURE not in call("verify", run).stdout
    done = call("verify", run, "mine.pub.pem")
    assert done.exit_code == 1
    assert "not signed; sign it with" in done.stderr


def test_nobody_signs_what_was_changed(run: Path) -> None:
    (run / DATA).write_text("other")
    done = call("sign", run, "mine.pem")
    assert done.exit_code == 1
    assert f"{DATA} (changed)" in done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not there")
def test_openssl_agrees(run: Path) -> None:
    public = run.parent / "mine.pub.pem"
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", run / "manifest.json"]
    done = subprocess.run([*words, "-sigfile", run / SIGNATURE], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run / "manifest.json").write_text((run / "manifest.json").read_text() + " ")
    assert subprocess.run([*words, "-sigfile", run / SIGNATURE], check=False, capture_output=True).returncode == 1
    form_of_key = ["openssl", "pkey", "-pubin", "-in", public, "-outform", "der"]
    der = subprocess.run(form_of_key, check=True, capture_output=True).stdout
    write_manifest(run, [run / DATA], [run / WEIGHTS], {"torch": "2"})
    marked = json.loads(call("sign", run, "mine.pem", "--json").stdout)["key_sha256"]
    assert marked == hashlib.sha256(der).hexdigest()


def test_a_key_with_a_password_takes_it_from_the_environment(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair(run.parent, "locked", form.BestAvailableEncryption(b"secret"))
    assert "AN8FLOWER_KEY_PASSWORD" in call("sign", run, "locked.pem").stderr
    monkeypatch.setenv(PASSWORD, "wrong")
    assert "password is wrong" in call("sign", run, "locked.pem").stderr
    monkeypatch.setenv(PASSWORD, "secret")
    assert call("sign", run, "locked.pem").exit_code == 0
    assert call("verify", run, "locked.pub.pem").exit_code == 0


def test_what_is_no_key_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    for text in (b"", b"-----BEGIN PRIVATE KEY-----\n", b"\x80\x04."):
        path.write_bytes(text)
        for read in (open_private_key, open_public_key):
            with pytest.raises(Refusal, match=r"cannot be read as a .* key"):
                read(path)
    curve = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(curve.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, BARE))
    with pytest.raises(Refusal, match="another kind of key came"):
        open_private_key(path)
    with pytest.raises(Refusal, match="no such file; make one with `openssl genpkey"):
        open_private_key(tmp_path / "none.pem")


def test_without_the_package_a_sentence_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for command, key in (("sign", "mine.pem"), ("verify", "mine.pub.pem")):
        done = call(command, run, key)
        assert done.exit_code == 1
        assert "install it with `pip install an8flower[sign]`" in done.stderr
        assert done.stderr.count("\n") == 1
    assert call("verify", run).exit_code == 0


def test_a_page_that_is_written_again_warns_that_the_signature_is_old(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("an8flower.evaluate.report.page.write_page", lambda folder: folder / "report.html")
    monkeypatch.setattr("an8flower.evaluate.report.summary_cards.write_cards", lambda folder: [])
    (run / "report.html").write_text("another page")
    done = CliRunner().invoke(main, ["report", str(run)])
    assert "sign the audit again" in done.stderr
    assert call("verify", run, "mine.pub.pem").exit_code == 1
