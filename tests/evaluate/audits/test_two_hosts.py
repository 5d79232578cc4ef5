"""An audit over two hosts on Ray: network namespaces, a cable between them, and what befalls cable and hosts."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from an8flower import spec as specs
from an8flower.evaluate.models.classifier import build
from an8flower.generate import generate
from an8flower.store import FlowerStore

if find_spec("ray") is None:  # it is not imported here: that is done by the processes on the hosts
    pytest.skip("Ray is not installed", allow_module_level=True)

FOLDER = Path(__file__).parent
METHODS = [f"hosts_methods:Noted:power={power}.0" for power in range(1, 7)]
ADDRESS = {"head": "10.77.0.1", "other": "10.77.0.2"}
PORT = 6379
LOST_HEAD = 100  # seconds; Ray itself gives a head up after 60
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Hosts:
    """Two network namespaces with one cable, a Ray node in each, and audits that are begun on the head."""

    def __init__(self, place: Path, folder: Path) -> None:
        self.place, self.notes = place, folder / "notes"
        self.scratch = Path(tempfile.mkdtemp(prefix="an8"))  # a short path: sockets of Ray lie in it
        self.names = {host: f"an8{host}{secrets.token_hex(4)}" for host in ADDRESS}
        self.environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(place),
            "NOTES": str(self.notes),
            "SLOWNESS": "1.0",
        }

    def __enter__(self) -> Hosts:
        for name in self.names.values():
            _ip("netns", "add", name)
        head, other = self.names.values()
        _ip("link", "add", "cable", "netns", head, "type", "veth", "peer", "name", "cable", "netns", other)
        for host, name in self.names.items():
            _ip("-n", name, "addr", "add", f"{ADDRESS[host]}/24", "dev", "cable")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "cable", "up")
        self.start("head", "--head", "--port", str(PORT), "--include-dashboard", "false")
        self.start("other", "--address", f"{ADDRESS['head']}:{PORT}")
        return self

    def __exit__(self, *raised: object) -> None:
        for host, name in self.names.items():
            for pid in self.processes(host):
                _kill(pid)
            _ip("netns", "delete", name)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def start(self, host: str, *words: str) -> None:
        """Start the Ray node of a host; it has one CPU."""
        shared = ["--num-cpus", "1", "--object-store-memory", str(100 * 2**20), "--node-ip-address", ADDRESS[host]]
        place = ["--temp-dir", str(self.scratch)] if "--head" in words else []
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *shared, *place]
        with (self.scratch / f"{host}.log").open("w") as log:
            done = subprocess.run(
                ["ip", "netns", "exec", self.names[host], *command],
                env=self.environment,
                cwd=self.scratch,  # another folder than that of the audit
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
            )
        assert done.returncode == 0, (self.scratch / f"{host}.log").read_text()

    def begin(self, run: Path) -> subprocess.Popen[str]:
        """Begin the audit on the head."""
        engine = ["--engine", "ray", "--ray-address", f"{ADDRESS['head']}:{PORT}"]
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names["head"], *_command(self.place, run, *engine)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.place,
        )

    def processes(self, host: str, name: str = "") -> list[int]:
        """The processes of a host, or those of one name."""
        pids = [int(pid) for pid in _ip("netns", "pids", self.names[host]).split()]
        return [pid for pid in pids if not name or _name_of(pid) == name]

    def workers(self, host: str) -> list[int]:
        """The processes in which the method was called on a host, in the order of the calls."""
        mark = str(os.stat(f"/run/netns/{self.names[host]}").st_ino)
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[0] == mark]

    def cut(self) -> None:
        _ip("-n", self.names["other"], "link", "set", "cable", "down")

    def heal(self) -> None:
        _ip("-n", self.names["other"], "link", "set", "cable", "up")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that both hosts share: data, a model, the plan and the method."""
    probe = f"an8probe{os.getpid()}"
    if not shutil.which("ip") or subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode:
        pytest.skip("this machine does not let us make network namespaces (`ip netns add`)")
    _ip("netns", "delete", probe)
    folder = tmp_path_factory.mktemp("hosts")
    generate(specs.load("single-6c").with_changes(rows=120, size=32), folder / "flowers.h5", workers=1)
    build("flowernet", FlowerStore(folder / "flowers.h5").class_names, 32, seed=0).save(folder / "net.safetensors")
    shutil.copy(FOLDER / "hosts_methods.py", folder)
    (folder / "plan.toml").write_text(f"""
name = "two-hosts"
methods = {json.dumps(METHODS)}
metrics = ["iou", "pointing"]
rows = 24
data = [{{ file = "flowers.h5" }}]
models = [{{ source = "net.safetensors" }}]
pictures = {{ rows = 2, extremes = 1 }}
""")
    return folder


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, Any]:
    """The numbers of the plan in one process."""
    environment = {**os.environ, "PYTHONPATH": str(place), "NOTES": os.devnull, "SLOWNESS": "0"}
    command = _command(place, place / "inline" / "run", "--engine", "inline")
    subprocess.run(command, env=environment, cwd=place, check=True, capture_output=True, timeout=300)
    return _numbers(place / "inline" / "run")


@pytest.fixture
def hosts(place: Path, tmp_path: Path) -> Iterator[Hosts]:
    with Hosts(place, tmp_path) as hosts:
        yield hosts


def nothing(hosts: Hosts) -> None:
    """The audit is let alone."""


def cut_the_cable_for_a_while(hosts: Hosts) -> None:
    """Shorter than it takes Ray to give a host up."""
    hosts.cut()
    time.sleep(10)
    hosts.heal()


def cut_the_cable_until_the_host_is_given_up(hosts: Hosts) -> None:
    hosts.cut()
    time.sleep(90)
    hosts.heal()


def kill_a_worker(hosts: Hosts) -> None:
    _kill(hosts.workers("other")[-1])


def kill_the_node_daemon(hosts: Hosts) -> None:
    (daemon,) = hosts.processes("other", "raylet")
    _kill(daemon)


@pytest.mark.parametrize(
    "disturb",
    [
        nothing,
        cut_the_cable_for_a_while,
        cut_the_cable_until_the_host_is_given_up,
        kill_a_worker,
        kill_the_node_daemon,
    ],
)
def test_an_audit_over_two_hosts_ends_with_all_numbers(
    hosts: Hosts, undisturbed: dict[str, Any], tmp_path: Path, disturb: Callable[[Hosts], None]
) -> None:
    audit = hosts.begin(tmp_path / "run")
    _wait_until_both_work(hosts, audit)
    disturb(hosts)
    _, errors = audit.communicate(timeout=300)
    assert audit.returncode == 0, errors
    assert _numbers(tmp_path / "run") == undisturbed


def test_a_lost_head_ends_the_audit_with_a_sentence_and_the_same_command_goes_on(
    hosts: Hosts, place: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    audit = hosts.begin(tmp_path / "run")
    _wait_until_both_work(hosts, audit)
    (server,) = hosts.processes("head", "gcs_server")
    _kill(server)
    began = time.monotonic()
    _, errors = audit.communicate(timeout=300)
    print(f"ended after {time.monotonic() - began:.0f} s with exit code {audit.returncode}:\n{errors}")
    assert time.monotonic() - began < LOST_HEAD
    assert audit.returncode == 1
    assert "Traceback" not in errors
    assert "the head of the Ray cluster" in errors
    with Hosts(place, tmp_path) as others:
        audit = others.begin(tmp_path / "run")
        _, errors = audit.communicate(timeout=300)
    assert audit.returncode == 0, errors
    assert _numbers(tmp_path / "run") == undisturbed


def _wait_until_both_work(hosts: Hosts, audit: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300  # each worker imports torch, on a busy machine
    while not (hosts.workers("head") and hosts.workers("other")):
        assert audit.poll() is None, audit.communicate()[1]
        assert time.monotonic() < deadline, "one of the hosts does nothing"
        time.sleep(0.1)


def _command(place: Path, run: Path, *more: str) -> list[str]:
    words = ["audit", str(place / "plan.toml"), "--trust", "--device", "cpu", *more, "-o", str(run)]
    return [sys.executable, "-m", "an8flower", *words]


def _numbers(run: Path) -> dict[str, Any]:
    """What came out for each method, without what it has cost."""
    (study,) = json.loads((run / "summary.json").read_text())["studies"]
    results = study["scores"]["results"]
    assert len(results) == len(METHODS)
    return {result["text"]: {key: value for key, value in result.items() if key != "cost"} for result in results}


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it has ended since
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
