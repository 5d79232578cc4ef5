"""The command that signs an audit, and what other commands do with signatures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import Refusal
from .options import FILE, as_json
from .printing import echo_json

if TYPE_CHECKING:
    from ..evaluate.results.signature import SignatureState


@click.command()
@click.argument("folder", type=FILE)
@click.option("--key", type=FILE, required=True, help="The private key: Ed25519, in a PEM file.")
@as_json
def sign(folder: Path, key: Path, as_json: bool) -> None:
    """Sign the audit in FOLDER: its manifest, which lists the sha256 of data, weights, plan, scores, summary and page.

    The signature is written beside the manifest. `an8flower verify FOLDER --public-key public.pem` checks it, and so
    does openssl. A password of the key is taken from the variable AN8FLOWER_KEY_PASSWORD. An audit whose files are not
    those of its manifest is not signed.

    \b
    Example:  an8flower sign runs/quick --key key.pem
    """
    from ..evaluate.results.signature import SIGNATURE, open_private_key, sign_run

    mark = sign_run(folder, open_private_key(key))
    if as_json:
        echo_json({"run": str(folder), "signature": str(folder / SIGNATURE), "key_sha256": mark})
    else:
        click.echo(f"{folder / SIGNATURE}: signed by the key with the sha256 {mark}")


def verify_signature(folder: Path, public_key: Path | None) -> SignatureState:
    """The state of the signature of an audit; raises Refusal if the key cannot be read."""
    from ..evaluate.results.signature import check_signature, open_public_key

    return check_signature(folder, None if public_key is None else open_public_key(public_key))


def show_signature(state: SignatureState, folder: Path) -> None:
    """Print the state of a signature; nothing if there is none."""
    from ..evaluate.results.signature import SIGNATURE

    if state == "not checked":
        click.echo(f"signed   {SIGNATURE}, by whom is not checked: give --public-key")
    elif state != "MISSING":
        click.echo(f"{state:<8} {SIGNATURE}")


def refuse_wrong_signature(state: SignatureState, folder: Path, public_key: Path | None) -> None:
    """Raise a Refusal if a key was given, and the audit is not signed by it."""
    if public_key is not None and state != "ok":
        reason = "not signed" if state == "MISSING" else f"not signed by {public_key}, or changed since"
        raise Refusal(f"{folder}: {reason}; sign it with `an8flower sign`, or give the key of whoever signed it")
