"""What tests of audits share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from markupsafe import Markup

from an8flower.evaluate.report import plots


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Plots of pages are empty: to draw them takes half of the time of a tiny audit, whose numbers are looked at here.

    They are drawn in `tests/evaluate/report`, and in the audits of the files that do not use this.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_markup", lambda key, figure: Markup("<svg></svg>"))
        yield
