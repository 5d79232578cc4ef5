"""A place for one worker process: it is started when there is work, watched, ended, and started again.

The pools of the standard library and of Pebble were tried first: the one ends as a whole when a process dies, and the
other never notices a process that leaves with exit code 0.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import monotonic

from an8flower.errors import Refusal

from .attempt import NEVER, STARTS, TRIES, Attempt, died_too_often, read_answer, too_long
from .here import Place
from .task import Done, Task
from .worker import BEGUN, READY, Answer, serve

STARTING = 300.0  # seconds until a process works on its task: torch may come from a slow disk
LEAVING = 3.0  # seconds that a dismissed process may take
SPAWN = multiprocessing.get_context("spawn")  # a fork of a process that uses torch may hang, or lose its GPU


class Slot:
    """At most one process, with at most one task."""

    def __init__(self, place: Place, time_limit: float | None) -> None:
        self.place, self.time_limit = place, time_limit
        self.attempt: Attempt | None = None
        self.deadline = NEVER  # by `time.monotonic`
        self._process: SpawnProcess | None = None
        self._pipe: Connection
        self._failed_starts = 0  # in a row
        self._begun = False

    @property
    def signs(self) -> list[Connection | int]:
        """What to wait for: something is said, or the process ends."""
        return [self._pipe, self._process.sentinel] if self._process else []

    def begin(self, attempt: Attempt, order: bytes) -> None:
        """Send a pickled call to the process."""
        if not self._process:
            self._start()
        self.attempt, self._begun = attempt, False
        self.deadline = monotonic() + STARTING
        with suppress(OSError):  # it has died while it was idle, which `look` will see
            self._pipe.send_bytes(order)

    def look(self, waiting: deque[Attempt]) -> Done | None:
        """What has become of the task, None while it is being done; one whose process has died may wait again.

        Raises Refusal where one process after the other dies before it is ready.
        """
        assert self._process, "asked for only while there is a task"
        try:
            while self._pipe.poll():
                if answer := self._heard(self._pipe.recv()):
                    return self._done(answer)
        except (EOFError, OSError):
            return self._handle_death(waiting)
        if not self._process.is_alive():
            return self._handle_death(waiting)
        return self._too_long() if monotonic() > self.deadline else None

    def dismiss(self) -> None:
        """Let the process go by itself where it has nothing to do, so that libraries clear away what they hold."""
        if self._process and not self.attempt:
            self._pipe.close()

    def end(self) -> None:
        """Kill the process, unless it was dismissed: it holds nothing that is not on disk or lost anyway."""
        self.attempt, self.deadline = None, NEVER
        if self._process:
            if self._pipe.closed:
                self._process.join(LEAVING)
            self._process.kill()
            self._process.join()
            self._process.close()
            self._pipe.close()
            self._process = None

    def _start(self) -> None:
        self._pipe, theirs = SPAWN.Pipe()
        with _deaf_to_interruption():
            process = SPAWN.Process(target=serve, args=(theirs, self.place, os.getpid()), daemon=True)
            process.start()
        self._failed_starts += 1  # until it says that it is ready
        theirs.close()  # so that this end is told when the process has gone
        self._process = process

    def _heard(self, message: str | Answer) -> Answer | None:
        if message == READY:
            self._failed_starts = 0
        elif message == BEGUN:
            self._begun = True
            self.deadline = NEVER if self.time_limit is None else monotonic() + self.time_limit
        return message if isinstance(message, Answer) else None

    def _done(self, answer: Answer) -> Done:
        task = self._leave()
        if answer.worn:
            self.end()
        return read_answer(task, answer)

    def _handle_death(self, waiting: deque[Attempt]) -> Done | None:
        """Try again, unless that was the last time."""
        assert self._process, "only a process can die"
        self._process.join()
        cause, attempt = _cause(self._process.exitcode), self.attempt
        assert attempt, "asked for only while there is a task"
        self.end()
        if self._failed_starts == STARTS:
            remedy = 'a script of your own needs `if __name__ == "__main__":`'
            raise Refusal(f"no worker process can be started: {STARTS} in a row {cause} at once; {remedy}")
        attempt.deaths += not self._failed_starts
        if attempt.deaths == TRIES:
            return died_too_often(attempt.task, cause)
        waiting.append(attempt)
        return None

    def _too_long(self) -> Done:
        begun = self._begun
        task = self._leave()
        self.end()
        if not begun:
            return Done(task, error=f"its process was not ready for it after {STARTING:g} s; is the disk very slow?")
        return too_long(task, self.time_limit)

    def _leave(self) -> Task:
        assert self.attempt, "only a task that was begun is left"
        task, self.attempt, self.deadline = self.attempt.task, None, NEVER
        return task


def _cause(code: int | None) -> str:
    """How a process has ended.

    >>> _cause(-9), _cause(3)
    ('was killed by SIGKILL', 'left with exit code 3')
    """
    if code is None or code >= 0:
        return f"left with exit code {code}"
    names = {int(number): number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


@contextmanager
def _deaf_to_interruption() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; a worker that is being born inherits that it is not told."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
