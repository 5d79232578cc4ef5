"""Nothing is announced before it is known to be possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from an8flower.commands.ensure import ensure_default_model
from an8flower.errors import Refusal


def test_no_training_is_announced_of_data_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refusal, match=r"nix\.h5"):
        ensure_default_model(Path("nix.h5"), "cpu")
    assert capsys.readouterr().err == ""
