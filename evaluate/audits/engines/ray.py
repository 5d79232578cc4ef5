"""Tasks done by a Ray cluster, or by Ray on this machine. The only place that knows Ray.

A task is a generator there: its first value says that it has begun, which starts its time limit, its second is what
the worker answers.
"""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from an8flower.errors import Refusal

from .attempt import NEVER, TRIES, Attempt, died_too_often, read_answer, too_long
from .here import Place
from .task import Done, Task, report_error
from .worker import BEGUN, Answer, carry_out, is_worn, settle_in

OBJECT_STORE = 200 * 2**20  # bytes; orders and answers are small
WAITING = 2  # tasks beyond what the cluster can do at once: a cluster that grows by demand has to see some
SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do in future, of which it warns
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # it would print what befalls workers among our results; `Done` tells that
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
}
UNSEEN = 8  # processes that may die before they are seen to begin; worn ones do, and none of that is the task's fault
_used = False  # whether this process has carried out a task


@dataclass
class _Flight:
    """A task that has been sent."""

    attempt: Attempt
    deadline: float = NEVER  # by `time.monotonic`, once it has begun
    begun: bool = False
    cancelled: bool = False


class OnRay:
    """A cluster by its address ("auto" for the one of this machine), else `workers` processes that Ray starts here.

    A task gets `threads` CPUs, or more where it asks for them, and the GPUs that it asks for. What a worker imports
    (this package, and methods of your own) has to be there on every machine, and files under the same path.

    Raises Refusal where there is no Ray, or no cluster at the address.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int = 1,
        threads: int = 1,
        time_limit: float | None = None,
        memory_limit: float | None = None,
    ) -> None:
        self.threads, self.time_limit, self.memory_limit = threads, time_limit, memory_limit
        self._ray = _import_ray()
        self._joined = self._ray.is_initialized()  # a session that somebody else has begun, and will end
        if not self._joined:
            _begin(self._ray, address, workers * threads)
        self._carry_out = self._ray.remote(_carry_out)

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Every task once, in the order in which they end."""
        waiting = deque(Attempt(task) for task in tasks)
        flying: dict[Any, _Flight] = {}
        try:
            while waiting or flying:
                yield from self._send(waiting, flying)
                for sign in self._signs(flying):
                    if done := self._heard(sign, flying, waiting):
                        yield done
        finally:  # also on Ctrl-C, and where nobody asks for the rest
            for sign in flying:
                self._ray.cancel(sign, force=True)

    def close(self) -> None:
        """End what was begun here: the processes that were started, or the connexion to the cluster."""
        if not self._joined:
            with _quietly():
                self._ray.shutdown()

    def __enter__(self) -> OnRay:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _send(self, waiting: deque[Attempt], flying: dict[Any, _Flight]) -> Iterator[Done]:
        """As many tasks as the cluster can do, and a few more; what cannot travel comes back."""
        while waiting and len(flying) < self._room(waiting[0].task):
            attempt = waiting.popleft()
            try:
                order = pickle.dumps((attempt.task.call, attempt.task.arguments))
            except Exception as error:  # what a class does to be pickled may raise anything
                yield report_error(attempt.task, error)
            else:
                flying[self._dispatch(attempt.task, order)] = _Flight(attempt)

    def _room(self, task: Task) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0) // self._cpus(task)) + WAITING

    def _cpus(self, task: Task) -> int:
        return max(self.threads, task.cpus)

    def _dispatch(self, task: Task, order: bytes) -> Any:
        """The generator of what is heard of the task; tries are counted here, so that each has its own time."""
        cpus = self._cpus(task)
        place = Place(cpus, self.memory_limit, "cuda" if task.gpus else "cpu")
        wants = {"num_cpus": cpus, "num_gpus": task.gpus, "max_retries": 0, "name": task.name}
        return self._carry_out.options(num_returns="streaming", **wants).remote(
            order, place, [os.path.abspath(folder) for folder in sys.path]
        )

    def _signs(self, flying: dict[Any, _Flight]) -> list[Any]:
        """Wait until something is heard of a task, or one has run for too long."""
        if not flying:
            return []
        deadline = min(flight.deadline for flight in flying.values())
        patience = None if deadline == NEVER else max(0.0, deadline - monotonic())
        heard, silent = self._ray.wait(list(flying), timeout=patience, fetch_local=True)
        for sign in silent:
            if not flying[sign].cancelled and monotonic() > flying[sign].deadline:
                flying[sign].cancelled, flying[sign].deadline = True, NEVER
                self._ray.cancel(sign, force=True)
        return heard

    def _heard(self, sign: Any, flying: dict[Any, _Flight], waiting: deque[Attempt]) -> Done | None:
        flight = flying[sign]
        try:
            message = self._ray.get(next(sign))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            del flying[sign]
            return self._lost(flight, error, waiting)
        if message == BEGUN:
            flight.begun = True
            flight.deadline = monotonic() + (NEVER if self.time_limit is None else self.time_limit)
            return None
        del flying[sign]
        assert isinstance(message, Answer)
        return read_answer(flight.attempt.task, message)

    def _lost(self, flight: _Flight, error: Exception, waiting: deque[Attempt]) -> Done | None:
        """Too long, or its process or machine has died: then try again, unless that was the last time."""
        attempt = flight.attempt
        if flight.cancelled:
            return too_long(attempt.task, self.time_limit)
        if isinstance(error, self._ray.exceptions.RayTaskError):
            return report_error(attempt.task, error)  # it could not even be unpickled: the machines differ
        attempt.deaths += flight.begun
        attempt.failed_starts += not flight.begun  # or it died so soon that its sign was lost
        if attempt.deaths == TRIES or attempt.failed_starts == UNSEEN:
            tries = attempt.deaths + attempt.failed_starts
            return died_too_often(attempt.task, f"died ({type(error).__name__})", tries)
        waiting.append(attempt)
        return None


def _carry_out(order: bytes, place: Place, folders: list[str]) -> Iterator[str | Answer]:
    """What runs in a worker of Ray. One that holds too much memory leaves, and the task goes to a fresh one."""
    global _used
    sys.path += [folder for folder in folders if folder not in sys.path]  # methods of the user's own
    if _used and is_worn(place.memory_limit):
        os._exit(0)
    _used = True
    settle_in(place)
    yield BEGUN
    yield carry_out(order, place.memory_limit)


def _import_ray() -> Any:
    for setting, value in SETTINGS.items():
        os.environ.setdefault(setting, value)  # read when Ray is imported
    try:
        with _quietly():
            import ray
    except ImportError:
        raise Refusal("Ray is not installed; `pip install an8flower[ray]`, or take another --engine") from None
    return ray


def _begin(ray: Any, address: str | None, cpus: int) -> None:
    """Join the cluster at the address, or start Ray on this machine."""
    options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        with _quietly():
            ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else options))
    except (ConnectionError, RuntimeError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise Refusal(
            f'no cluster could be joined at "{address or "local"}"; start it with `ray start --head` ({cause})'
        ) from None


@contextmanager
def _quietly() -> Iterator[None]:
    """Ray warns of what will change in its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
