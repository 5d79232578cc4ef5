"""Progress bars: on standard error, and only where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..pace import Pace

BETWEEN_LINES = 30.0  # seconds between two lines on how far a stage has come, where there is no bar


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; it takes how many more items are done."""
    with _bars() as bars:
        bar = bars.add_task(what, total=total)
        yield lambda step: bars.update(bar, advance=step)


@contextmanager
def filling(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs; it takes how many items are done, and how many there are."""
    with _bars() as bars:
        bar = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


class Stages:
    """Progress bars for long work, one for each stage: how much is done, and how long the rest takes.

    If standard error is no terminal, a line there says now and then how far a stage is, and when it is through.
    """

    def __init__(self) -> None:
        self._bars = _bars(transient=False)

    def __enter__(self) -> Stages:
        self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Show a bar for one stage while the block runs; it takes how many items are done, and how many there are."""
        bar, began = self._bars.add_task(what, total=None), monotonic()
        show = self._count_in_lines(what) if self._bars.disable else lambda done, total: None

        def tell(done: int, total: int) -> None:
            self._bars.update(bar, completed=done, total=total)
            show(done, total)

        yield tell
        task = self._bars.tasks[bar]
        self._bars.update(bar, total=task.total or 1, completed=task.total or 1)
        if self._bars.disable:
            self.say(f"{what}: {monotonic() - began:.0f} s")

    def _count_in_lines(self, what: str) -> Callable[[int, int], None]:
        """The function that prints a line on how far a stage has come, if the last one was a while ago."""
        pace, last = Pace(what), [monotonic()]

        def show(done: int, total: int) -> None:
            sentence = pace.describe(done, total)
            if monotonic() - last[0] >= BETWEEN_LINES and done < total:
                last[0] = monotonic()
                self.say(sentence)

        return show

    def say(self, sentence: str) -> None:
        """Print a line above the bars, on standard error."""
        self._bars.console.print(sentence, markup=False, highlight=False)


def _bars(transient: bool = True) -> Progress:
    console = Console(stderr=True)
    counted = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    timed = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*counted, *timed, console=console, disable=not console.is_terminal, transient=transient)
