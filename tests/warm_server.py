"""A process that has the package imported and forks for each command, so that a command starts in milliseconds.

It listens on a socket, and forks a clerk for each connection, so that many may share it. A clerk reads an order from
each line, and answers each with a line, both JSON. The child of an order has a session, limits and a folder of its own;
whatever becomes of it, the clerk sees it and goes on. Nothing is imported before somebody connects.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LIMITS = {"RLIMIT_FSIZE": 2**30, "RLIMIT_CORE": 0}  # bytes
PR_SET_PDEATHSIG = 1  # of Linux's prctl
HEAVY = ["torch._dynamo"]  # what torch imports at its first step backwards
CLONE_NEWNET = 0x40000000  # of Linux's unshare


def serve(listener: socket.socket) -> None:
    """Have a clerk for each connection until stdin ends."""
    ready = False
    while listener in select.select([sys.stdin, listener], [], [])[0]:
        if not ready:
            prepare()
        ready = True
        connection, _ = listener.accept()
        if os.fork() == 0:
            carry_out(connection)
        connection.close()
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)  # what libraries say when they are taken down is of no use


def prepare() -> None:
    """Do once what no command has to do then."""
    import_everything()
    render_once()
    os.fsync = lambda handle: None  # no power fails in a test
    gc.freeze()  # what is never collected is never copied in a child
    ctypes.CDLL(None).unshare(CLONE_NEWNET)  # no network; without effect if we are not root


def carry_out(connection: socket.socket) -> None:
    """Carry out one order after the other until the connection ends; never returns."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with connection.makefile("rw") as lines:
        for line in lines:
            order = json.loads(line)
            answer = {"imported": import_modules(order["modules"])} if "modules" in order else watch(order)
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
    os._exit(0)


def import_everything() -> None:
    """Import every module of the package, so that no child has to."""
    import torch

    import an8flower
    import an8flower.evaluate

    torch.set_num_threads(1)
    packages = (an8flower, an8flower.evaluate)
    names = [
        info.name for package in packages for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    import_modules([name for name in names if not name.endswith(".ray")] + HEAVY)


def render_once() -> None:
    """Have the renderer compiled, or read from its cache, once for all."""
    from an8flower import spec
    from an8flower.generate import generate

    with tempfile.TemporaryDirectory() as folder:
        generate(spec.load("single-6c").with_changes(rows=30, size=16), Path(folder) / "one.h5", workers=1)


def import_modules(names: list[str]) -> int:
    """Import what can be imported, and count what is there afterwards."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return len(sys.modules)


def watch(order: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a forked child, and end it when its time is over."""
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        run_child(order)
    ready, _, _ = select.select([watched := os.pidfd_open(pid)], [], [], order["seconds"])
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0 if ready else signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    os.close(watched)
    with contextlib.suppress(ProcessLookupError):  # what the child has left behind
        os.killpg(pid, signal.SIGKILL)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "timed_out": not ready,
        "seconds": time.monotonic() - begin,
        "peak": usage.ru_maxrss * 1024,
    }


def run_child(order: dict[str, Any]) -> None:
    """Be the command: never returns."""
    code = 70
    try:
        settle(order)
        if order["fork_readers"]:
            fork_readers()
        code = call(order["words"])
        if place := order["note_modules"]:
            with open(place, "w") as file:
                json.dump(sorted(sys.modules), file)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def settle(order: dict[str, Any]) -> None:
    """Take the command's folder, environment, streams and limits."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    sys.path[0] = order["folder"]  # as `python -m` does
    sys.path[1:1] = filter(None, order["environment"].get("PYTHONPATH", "").split(os.pathsep))
    for stream, name in enumerate((os.devnull, order["stdout"], order["stderr"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), stream)
    memory = order["memory"] or resource.RLIM_INFINITY
    for name, limit in {**LIMITS, "RLIMIT_DATA": memory}.items():  # as the audit limits its workers
        resource.setrlimit(getattr(resource, name), (limit, limit))


def fork_readers() -> None:
    """Have the child in which `verify` reads a file forked as well: it has the same limits, and imports nothing."""
    from an8flower.gate import child

    child.multiprocessing = SimpleNamespace(get_context=lambda method: multiprocessing.get_context("fork"))


def call(words: list[str]) -> int:
    """Call the command line, or the Python code after `-c`, as the interpreter would; returns the exit status."""
    from an8flower.__main__ import main

    sys.argv = ["an8flower", *words]
    try:
        if words[0] == "-c":
            exec(words[1], {})
        else:
            main(args=words, prog_name="an8flower")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
