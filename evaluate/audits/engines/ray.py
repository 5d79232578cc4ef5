"""Tasks done by a Ray cluster, or by Ray on this machine. The only place that knows Ray.

A task is a generator there: its first value says that it has begun, which starts its time limit, its second is what
the worker answers.
"""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from an8flower.errors import Refusal

from .attempt import NEVER, TRIES, Attempt, fail_by_death, fail_by_time, interpret
from .here import Place
from .task import Done, Task, fail
from .worker import BEGUN, Answer, carry_out, is_worn, settle_in

OBJECT_STORE = 200 * 2**20  # bytes; orders and answers are small
WAITING = 2  # tasks beyond what the cluster can do at once: a cluster that grows by demand has to see some
SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do in future, of which it warns
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # it would print what befalls workers among our results; `Done` tells that
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
}
PROBING = 10.0  # seconds until the port of a cluster answers; Ray itself tries for a quarter of an hour
JOINING = 50.0  # seconds until a cluster has let this process in
PULSE = 5.0  # seconds after which a head that says nothing is asked whether it is still there
LOST = 40.0  # seconds of silence after which a head is given up; Ray itself ends this process after 60
UNSEEN = 8  # processes that may die before they are seen to begin; worn ones do, and none of that is the task's fault
_used = False  # whether this process has carried out a task


@dataclass
class _Flight:
    """A task that has been sent to the cluster."""

    attempt: Attempt
    deadline: float = NEVER  # by `time.monotonic`, once it has begun
    begun: bool = False
    cancelled: bool = False


class _Head:
    """The head of a cluster, which is asked now and then whether it is still there."""

    def __init__(self, address: str) -> None:
        self.address, self._place, self._silent_since = address, _host_and_port(address), NEVER
        self.is_lost = False

    def answers(self) -> bool:
        """Whether the head takes a connexion now; raises Refusal if it has taken none for too long."""
        if not self._place:
            return True
        try:
            socket.create_connection(self._place, PULSE).close()
        except OSError:
            self._give_up_in_time()
            return False
        self._silent_since = NEVER
        return True

    def _give_up_in_time(self) -> None:
        self._silent_since = min(self._silent_since, monotonic())
        self.is_lost = monotonic() - self._silent_since > LOST
        if self.is_lost:
            raise Refusal(
                f"the head of the Ray cluster at {self.address} has not answered for {LOST:.0f} s; start the cluster"
                " again, and the same command goes on with what is left"
            )
        sleep(1)


class OnRay:
    """The engine of Ray: a cluster by its address ("auto" for that of this machine), else `workers` processes here.

    A task gets `threads` CPUs, or more where it asks for them, and the GPUs that it asks for. What a worker imports
    (this package, and methods of your own) has to be there on every machine, and files under the same path. Relative
    names are those of the folder in which the run was begun.

    Raises Refusal if there is no Ray, no cluster that answers at the address within a minute, or no head any more.
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
            _join(self._ray, address) if address else _start_here(self._ray, workers * threads)
        self._head = _Head(_address_of_head(self._ray, address or ""))
        self._carry_out = self._ray.remote(_carry_out)

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Do every task once; outcomes come in the order in which they end."""
        waiting = deque(Attempt(task) for task in tasks)
        flying: dict[Any, _Flight] = {}
        try:
            while waiting or flying:
                if self._head.answers():  # else Ray would wait for it
                    yield from self._send(waiting, flying)
                for sign in self._signs(flying):
                    if done := self._hear(sign, flying, waiting):
                        yield done
        finally:  # also on Ctrl-C, and where nobody asks for the rest
            for sign in () if self._head.is_lost else flying:
                self._ray.cancel(sign, force=True)

    def close(self) -> None:
        """End what was begun here: the processes that were started, or the connexion to the cluster."""
        if not self._joined and not self._head.is_lost:
            with _quietly():
                self._ray.shutdown()

    def __enter__(self) -> OnRay:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _send(self, waiting: deque[Attempt], flying: dict[Any, _Flight]) -> Iterator[Done]:
        """Send as many tasks as the cluster can do, and a few more; what cannot travel comes back."""
        while waiting and len(flying) < self._room(waiting[0].task):
            attempt = waiting.popleft()
            try:
                order = pickle.dumps((attempt.task.call, attempt.task.arguments))
            except Exception as error:  # what a class does to be pickled may raise anything
                yield fail(attempt.task, error)
            else:
                flying[self._fly(attempt.task, order)] = _Flight(attempt)

    def _room(self, task: Task) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0) // self._cpus(task)) + WAITING

    def _cpus(self, task: Task) -> int:
        return max(self.threads, task.cpus)

    def _fly(self, task: Task, order: bytes) -> Any:
        """Send a task, and give its messages as they come; tries are counted here, so that each has its own time."""
        cpus = self._cpus(task)
        place = Place(cpus, self.memory_limit, "cuda" if task.gpus else "cpu")
        wants = {"num_cpus": cpus, "num_gpus": task.gpus, "max_retries": 0, "name": task.name}
        return self._carry_out.options(num_returns="streaming", **wants).remote(
            order, place, os.getcwd(), [os.path.abspath(folder) for folder in sys.path]
        )

    def _signs(self, flying: dict[Any, _Flight]) -> list[Any]:
        """Wait until something is heard of a task, or one has run for too long."""
        if not flying:
            return []
        deadline = min(flight.deadline for flight in flying.values())
        patience = min(PULSE, max(0.0, deadline - monotonic()))
        heard, silent = self._ray.wait(list(flying), timeout=patience, fetch_local=True)
        for sign in silent:
            if not flying[sign].cancelled and monotonic() > flying[sign].deadline:
                flying[sign].cancelled, flying[sign].deadline = True, NEVER
                self._ray.cancel(sign, force=True)
        return heard

    def _hear(self, sign: Any, flying: dict[Any, _Flight], waiting: deque[Attempt]) -> Done | None:
        flight = flying[sign]
        try:
            message = self._ray.get(next(sign))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            del flying[sign]
            return self._lose(flight, error, waiting)
        if message == BEGUN:
            flight.begun = True
            flight.deadline = monotonic() + (NEVER if self.time_limit is None else self.time_limit)
            return None
        del flying[sign]
        assert isinstance(message, Answer)
        return interpret(flight.attempt.task, message)

    def _lose(self, flight: _Flight, error: Exception, waiting: deque[Attempt]) -> Done | None:
        """Note that a task ran too long, or that its process or machine has died: then it may be tried again."""
        attempt = flight.attempt
        if flight.cancelled:
            return fail_by_time(attempt.task, self.time_limit)
        if isinstance(error, self._ray.exceptions.RayTaskError):
            return fail(attempt.task, error)  # it could not even be unpickled: the machines differ
        attempt.deaths += flight.begun
        attempt.failed_starts += not flight.begun  # or it died so soon that its sign was lost
        if attempt.deaths == TRIES or attempt.failed_starts == UNSEEN:
            tries = attempt.deaths + attempt.failed_starts
            return fail_by_death(attempt.task, f"died ({type(error).__name__})", tries)
        waiting.append(attempt)
        return None


def _carry_out(order: bytes, place: Place, folder: str, folders: list[str]) -> Iterator[str | Answer]:
    """What runs in a worker of Ray. One that holds too much memory leaves, and the task goes to a fresh one."""
    global _used
    if os.path.isdir(folder):  # a node works where it was started, and names in a plan may be relative
        os.chdir(folder)
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


def _join(ray: Any, address: str) -> None:
    """Join the cluster at an address; raises Refusal if there is none, or if it does not answer in time."""

    def join() -> None:
        if place := _host_and_port(address):
            socket.create_connection(place, PROBING).close()
        _initialise(ray, address)

    try:
        _call_in_time(join, JOINING)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise Refusal(_why_not_joined(address, " ".join(str(error).split()))) from None


def _address_of_head(ray: Any, address: str) -> str:
    return address if _host_and_port(address) else str(ray.get_runtime_context().gcs_address)


def _start_here(ray: Any, cpus: int) -> None:
    """Start Ray on this machine alone; raises Refusal if that fails."""
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ}:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray makes one and leaves it in ~/.ray for ever
    options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        _initialise(ray, "local", **options)
    except (OSError, RuntimeError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise Refusal(f"Ray cannot be started on this machine ({cause}); take --engine local") from None


def _initialise(ray: Any, address: str, **options: Any) -> None:
    with _quietly():
        ray.init(address, log_to_driver=False, logging_level="ERROR", **options)


def _call_in_time(call: Callable[[], None], seconds: float) -> None:
    """Call a function that may never return; raises what it raises, and TimeoutError after so many seconds."""
    errors: list[BaseException] = []

    def note() -> None:
        try:
            call()
        except BaseException as error:  # it is raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=note, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer in {seconds:g} s")
    if errors:
        raise errors[0]


def _host_and_port(address: str) -> tuple[str, int] | None:
    """The host and the port of an address; None for `auto`, and for what Ray alone understands.

    >>> _host_and_port("head:6379"), _host_and_port("ray://[::1]:10001"), _host_and_port("auto")
    (('head', 6379), ('::1', 10001), None)
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if colon and port.isdecimal() and int(port) < 2**16 else None


def _why_not_joined(address: str, cause: str) -> str:
    """The sentence that says how to start a cluster, or how to be let in."""
    if any(word in cause.lower() for word in ("authenti", "token")):
        remedy = "give this machine the cluster's token, RAY_AUTH_MODE=token with RAY_AUTH_TOKEN or ~/.ray/auth_token"
    else:
        remedy = "start it with `ray start --head --port 6379`, with the same RAY_AUTH_MODE and token as here"
    return f'no cluster could be joined at "{address}" ({cause[:200]}); {remedy}'


@contextmanager
def _quietly() -> Iterator[None]:
    """Ray warns of what will change in its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
