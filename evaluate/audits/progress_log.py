"""The log of an audit: how far each stage has come and how long the rest takes, as lines in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from an8flower.pace import Pace, duration

from .cell_tasks import Progress

if TYPE_CHECKING:
    from .run import ProgressReporter

LOG = "progress.log"
SELDOM = 1.0  # seconds between two lines about cells, at least


class LoggingReporter:
    """A progress reporter that tells another one, and writes a line with the time into the log of the run."""

    def __init__(self, reporter: ProgressReporter, folder: Path) -> None:
        self._reporter, self._place = reporter, folder / LOG

    @contextmanager
    def stage(self, what: str) -> Iterator[Progress]:
        """Tell and log how far a part of the work has come, its beginning and its end."""
        pace, last = Pace(what), [-SELDOM]
        self._write(f"{what}: begins")
        with self._reporter.stage(what) as progress:

            def tell(done: int, total: int) -> None:
                progress(done, total)
                sentence = pace.describe(done, total)
                if done == total or monotonic() - last[0] >= SELDOM:
                    last[0] = monotonic()
                    self._write(sentence)

            yield tell
        self._write(f"{what}: through after {duration(pace.seconds)}")

    def say(self, sentence: str) -> None:
        """Tell and log a sentence."""
        self._reporter.say(sentence)
        self._write(sentence)

    def _write(self, sentence: str) -> None:
        """Add a line to the log; a log that cannot be written stops no audit."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with suppress(OSError), self._place.open("a", encoding="utf-8") as log:
            log.write(f"{now} {sentence}\n")
