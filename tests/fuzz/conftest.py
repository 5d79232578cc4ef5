"""One warm server and one corpus for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .fuzz import Fuzzer
from .judge import WarmServer


@pytest.fixture(scope="session")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    """A fuzzer with a server that has everything imported."""
    if sys.platform != "linux":
        pytest.skip("the server's limits are those of Linux")
    with WarmServer() as server:
        yield Fuzzer(server, tmp_path_factory.mktemp("fuzz"))
