"""One corpus for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.warm import WarmServer

from .fuzz import Fuzzer


@pytest.fixture(scope="session")
def fuzzer(warm_server: WarmServer | None, tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    """A fuzzer with a server that has everything imported."""
    if warm_server is None:
        pytest.skip("the server's limits are those of Linux")
    return Fuzzer(warm_server, tmp_path_factory.mktemp("fuzz"))
