"""The signature of an audit: Ed25519 over its manifest, which lists the sha256 of everything that the page rests on.

`manifest.json.sig` holds the 64 bytes of the signature and nothing else, so that other programs can check it:
`openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in manifest.json -sigfile manifest.json.sig`.

Source: Josefsson, Liusvaara: Edwards-Curve Digital Signature Algorithm (EdDSA), RFC 8032 (2017), section 5.1.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from an8flower.atomic import moved_into
from an8flower.errors import Refusal
from an8flower.gate.regular import FileKind, read_bytes, shorten

from .manifest import MANIFEST, verify_run

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = f"{MANIFEST}.sig"
PASSWORD = "AN8FLOWER_KEY_PASSWORD"  # the variable of the environment with the password of a private key
MAKE_KEY = "make one with `openssl genpkey -algorithm ed25519 -out key.pem`"
MAKE_PUBLIC = "take it from the private key with `openssl pkey -in key.pem -pubout -out public.pem`"
PRIVATE = FileKind("a private key (Ed25519, PEM)", 2**16, MAKE_KEY)
PUBLIC = FileKind("a public key (Ed25519, PEM)", 2**16, MAKE_PUBLIC)
SIGNED = FileKind("the signature of an audit", 2**10, "sign it with `an8flower sign`")
MANIFEST_KIND = FileKind("the manifest of an audit", 2**24, "run the audit again")

SignatureState = Literal["ok", "WRONG", "MISSING", "not checked"]


def open_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key from its PEM file; one with a password takes it from the variable AN8FLOWER_KEY_PASSWORD.

    Raises Refusal if it is none, if the password is missing or wrong, or if the package `cryptography` is missing.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = os.environ.get(PASSWORD)
    try:
        key = _load(path, PRIVATE, lambda text: load_pem_private_key(text, password.encode() if password else None))
    except TypeError as error:  # a password is missing, or there is one for a key without
        raise Refusal(f"{path}: {shorten(error)}; set {PASSWORD} for a key with a password, and no other") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Refusal(f"{path}: another kind of key came, expected {PRIVATE.noun}; {MAKE_KEY}")
    return key


def open_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key from its PEM file; raises Refusal if it is none, or if `cryptography` is missing."""
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _load(path, PUBLIC, load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise Refusal(f"{path}: another kind of key came, expected {PUBLIC.noun}; {MAKE_PUBLIC}")
    return key


def _load(path: Path, kind: FileKind, load: Callable[[bytes], Any]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    text = read_bytes(path, kind)
    try:
        return load(text)
    except (ValueError, UnsupportedAlgorithm):
        raise Refusal(f"{path}: cannot be read as {kind.noun}, or its password is wrong; {kind.remedy}") from None


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise Refusal(f"signatures need a package ({error}); install it with `pip install an8flower[sign]`") from None


def sign_run(folder: Path, key: Ed25519PrivateKey) -> str:
    """Sign the manifest of a finished audit, and return the fingerprint of the key.

    Raises Refusal if a file is not as the audit left it, so that nobody signs what was changed.
    """
    if broken := [f"{path} ({state.lower()})" for path, state in verify_run(folder).items() if state != "ok"]:
        raise Refusal(f"{folder}: not as the audit left it: {', '.join(broken)}; run the audit again, and sign that")
    with moved_into(folder / SIGNATURE) as unfinished:
        unfinished.write_bytes(key.sign(read_bytes(folder / MANIFEST, MANIFEST_KIND)))
    return fingerprint(key.public_key())


def check_signature(folder: Path, key: Ed25519PublicKey | None) -> SignatureState:
    """Whether the manifest of an audit is signed by a key; "not checked" if it is signed and no key is given."""
    if not (folder / SIGNATURE).exists():
        return "MISSING"
    if key is None:
        return "not checked"
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(read_bytes(folder / SIGNATURE, SIGNED), read_bytes(folder / MANIFEST, MANIFEST_KIND))
    except InvalidSignature:
        return "WRONG"
    return "ok"


def is_signed(folder: Path) -> bool:
    """Whether a signature lies in the folder of an audit, right or wrong."""
    return (folder / SIGNATURE).exists()


def fingerprint(key: Ed25519PublicKey) -> str:
    """The sha256 of a public key: of its DER form, as `openssl pkey -pubin -outform der | sha256sum` gives it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
