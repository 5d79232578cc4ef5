"""Tasks done by processes of this machine; one that hangs, dies or eats memory harms no other."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from time import monotonic

from .attempt import Attempt
from .here import Place
from .slot import Slot
from .task import Done, Task, fail

PULSE = 1.0  # seconds: a copy of a process that a task has forked may keep it open that the process itself has died


class Local:
    """The engine with `workers` processes, each with `threads` threads of torch.

    A task that runs longer than `time_limit` seconds is killed; a process may hold `memory_limit` GiB. If there are
    devices, workers are spread over them, and a task learns of its own by `here.device`.
    """

    def __init__(
        self,
        workers: int,
        threads: int = 1,
        time_limit: float | None = None,
        memory_limit: float | None = None,
        devices: Sequence[str] = (),
    ) -> None:
        spread = [devices[i % len(devices)] if devices else None for i in range(workers)]
        self._slots = [Slot(Place(threads, memory_limit, device), time_limit) for device in spread]

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Do every task once; outcomes come in the order in which they end.

        Raises Refusal if no process can be started.
        """
        waiting = deque(Attempt(task) for task in tasks)
        try:
            while waiting or self._busy():
                yield from self._hand_out(waiting)
                if self._busy():
                    self._wait()
                for slot in self._busy():
                    if done := slot.look(waiting):
                        yield done
        finally:  # also on Ctrl-C, and where nobody asks for the rest
            for slot in self._busy():
                slot.end()

    def close(self) -> None:
        """Let go of all processes; what is still being done is dropped."""
        for slot in self._slots:
            slot.dismiss()
        for slot in self._slots:
            slot.end()

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _busy(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.attempt]

    def _hand_out(self, waiting: deque[Attempt]) -> Iterator[Done]:
        """Give one task to each slot that has none, so that little is lost on Ctrl-C; what cannot travel comes back."""
        for slot in self._slots:
            while waiting and not slot.attempt:
                attempt = waiting.popleft()
                try:
                    order = pickle.dumps((attempt.task.call, attempt.task.arguments))
                except Exception as error:  # what a class does to be pickled may raise anything
                    yield fail(attempt.task, error)
                else:
                    slot.begin(attempt, order)

    def _wait(self) -> None:
        """Sleep until a process says something or dies, or a task has run for too long."""
        deadline = min(slot.deadline for slot in self._busy())
        patience = min(PULSE, max(0.0, deadline - monotonic()))
        connection.wait([sign for slot in self._busy() for sign in slot.signs], patience)
