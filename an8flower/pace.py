"""How far long work has come, in words: what is done, how much of it, for how long, and about how much longer."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Pace:
    """The pace of one piece of work; what was done before it began says nothing of how fast it goes."""

    def __init__(self, what: str, clock: Callable[[], float] = monotonic) -> None:
        self._what, self._clock, self._began = what, clock, clock()
        self._before: int | None = None  # how many items were done when the work was first looked at

    @property
    def seconds(self) -> float:
        """How long the work has been going on."""
        return self._clock() - self._began

    def seconds_left(self, done: int, total: int) -> float | None:
        """About how long the rest takes, if its items take as long as those so far; None before one is done."""
        if self._before is None:
            self._before = done
        new = done - self._before
        return self.seconds / new * (total - done) if new else None

    def describe(self, done: int, total: int) -> str:
        """The state in a line, such as "scoring: 3 of 12 done, 30 s so far, about 90 s left"."""
        left = self.seconds_left(done, total)
        rest = f", about {duration(left)} left" if left is not None and done < total else ""
        return f"{self._what}: {done} of {total} done, {duration(self.seconds)} so far{rest}"


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(9.6), duration(119), duration(130), duration(7300)
    ('10 s', '119 s', '2 min', '2 h 2 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
