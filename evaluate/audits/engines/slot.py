"""A place for one worker process: it is started when there is work, watched, ended, and started again.

The pools of the standard library and of Pebble were tried first: the one ends as a whole when a process dies, and the
other never notices a process that leaves with exit code 0.
"""

from __future__ import annotations

import signal
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from time import monotonic, sleep

from an8flower.errors import Refusal

from .attempt import NEVER, STARTS, TRIES, Attempt, fail_by_death, fail_by_time, interpret
from .birth import start_worker
from .here import Place
from .task import Done, Task
from .worker import BEGUN, READY, Answer, Message

STARTING = 60.0  # seconds until a process says that it is ready: Python and this package may come from a slow disk
IMPORTING = 300.0  # seconds from then until it works on its task: so may torch, and the code of the task
LEAVING = 3.0  # seconds that a process may take to end by itself


class Slot:
    """A place for at most one process, with at most one task."""

    def __init__(self, place: Place, time_limit: float | None) -> None:
        self.place, self.time_limit = place, time_limit
        self.attempt: Attempt | None = None
        self.deadline = NEVER  # by `time.monotonic`
        self._process: BaseProcess | None = None
        self._pipe: Connection
        self._stranger = ""  # whose code the process has run
        self._failed_starts = 0  # in a row
        self._order = 0  # the number of the latest order; no two orders of this place have the same
        self._ready = self._begun = False

    @property
    def signs(self) -> list[Connection | int]:
        """What to wait for: that the process says something, or that it ends."""
        return [self._pipe, self._process.sentinel] if self._process else []

    def begin(self, attempt: Attempt, order: bytes) -> None:
        """Send a pickled call to the process; to a fresh one if the process has run other strangers' code."""
        if self._stranger not in ("", attempt.task.stranger):
            self.end()
        if not self._process:
            self._start()
        self.attempt, self._begun, self._stranger = attempt, False, attempt.task.stranger
        self.deadline = monotonic() + (IMPORTING if self._ready else STARTING)
        self._order += 1
        with suppress(OSError):  # it has died while it was idle, which `look` will see
            self._pipe.send((self._order, order))

    def look(self, waiting: deque[Attempt]) -> Done | None:
        """The outcome of the task, None while it is being done; a task whose process has died may wait again.

        Raises Refusal if one process after the other dies before it is ready, or never gets ready.
        """
        assert self._process, "asked for only while there is a task"
        try:
            while self._pipe.poll():
                if answer := self._hear(self._pipe.recv()):
                    return self._finish(answer)
        except Exception:  # the pipe is closed, or a task has written to it what is no message
            return self._bury(waiting)
        if not self._process.is_alive():
            return self._bury(waiting)
        return self._interrupt(waiting) if monotonic() > self.deadline else None

    def dismiss(self) -> None:
        """Let the process go by itself if it has nothing to do, so that libraries clear away what they hold."""
        if self._process and not self.attempt:
            self._pipe.close()

    def end(self) -> None:
        """Kill the process, unless it was dismissed: it holds nothing that is not on disk or lost anyway."""
        self.attempt, self.deadline, self._stranger = None, NEVER, ""
        if self._process:
            if self._pipe.closed:
                _let_leave(self._process)
            self._process.kill()
            self._process.join()
            self._process.close()
            self._pipe.close()
            self._process = None

    def _start(self) -> None:
        try:
            process, pipe = start_worker(self.place)
        except OSError as error:  # no more processes or memory to be had
            raise Refusal(
                f"no worker process can be started ({error.strerror}); "
                "end other processes, or do the work in this one: --engine inline, or --in-process"
            ) from None
        self._failed_starts += 1  # until it says that it is ready
        self._pipe, self._process, self._ready, self._stranger = pipe, process, False, ""

    def _hear(self, message: object) -> Answer | None:
        """Take note of a message, and give the answer if it is one to the latest order; see `Message`."""
        assert self._process, "only a process says something"
        if not isinstance(message, Message) or message.process != self._process.pid:
            return None
        if message.content == READY:
            self._ready, self._failed_starts, self.deadline = True, 0, monotonic() + IMPORTING
        if message.order != self._order:
            return None
        if message.content == BEGUN:
            self._begun = True
            self.deadline = NEVER if self.time_limit is None else monotonic() + self.time_limit
        return message.content if isinstance(message.content, Answer) else None

    def _finish(self, answer: Answer) -> Done:
        task = self._leave()
        if answer.worn:
            self.end()
        return interpret(task, answer)

    def _bury(self, waiting: deque[Attempt]) -> Done | None:
        """Note that the process has died: its task is tried again, unless that was the last time."""
        assert self._process, "only a process can die"
        _let_leave(self._process)  # it may have lost its pipe alone, and stay
        return self._try_again(_cause(self._process.exitcode) + " at once" * (not self._ready), waiting)

    def _interrupt(self, waiting: deque[Attempt]) -> Done | None:
        """End the process, which has taken too long: to start, to import the code, or for the task."""
        if not self._ready:
            return self._try_again(f"did not get ready in {STARTING:g} s", waiting)
        begun, task = self._begun, self._leave()
        self.end()
        if not begun:
            return Done(task, error=f"its process was not ready for it after {IMPORTING:g} s; is the disk very slow?")
        return fail_by_time(task, self.time_limit)

    def _try_again(self, cause: str, waiting: deque[Attempt]) -> Done | None:
        attempt = self.attempt
        assert attempt, "asked for only while there is a task"
        self.end()
        if self._failed_starts == STARTS:
            remedy = 'a script of your own needs `if __name__ == "__main__":`, and a worker needs processes and threads'
            raise Refusal(f"no worker process can be started: {STARTS} in a row {cause}; {remedy}")
        attempt.deaths += not self._failed_starts
        if attempt.deaths == TRIES:
            return fail_by_death(attempt.task, cause)
        waiting.append(attempt)
        return None

    def _leave(self) -> Task:
        assert self.attempt, "only a task that was begun is left"
        task, self.attempt, self.deadline = self.attempt.task, None, NEVER
        return task


def _let_leave(process: BaseProcess) -> None:
    """Wait a little for a process to end.

    `join` waits for the end of a pipe, and then without any limit for the process, which may have closed the pipe.
    """
    deadline = monotonic() + LEAVING
    while process.is_alive() and monotonic() < deadline:
        sleep(0.01)


def _cause(code: int | None) -> str:
    """How a process has ended, as a continuation of "its process".

    >>> _cause(-9), _cause(3)
    ('was killed by SIGKILL', 'left with exit code 3')
    """
    if code is None:
        return "closed its pipe and stayed"
    if code >= 0:
        return f"left with exit code {code}"
    names = {int(number): number.name for number in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"
