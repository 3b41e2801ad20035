"""The embedded hypervisor starts once, stops completely, and leaves the machine unchanged."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.embedded import Embedded, host
from swarm.embedded.client import as_root
from swarm.errors import Unfit
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.network import Network
from swarm.paths import ROOT
from swarm.vm import desired
from tests.embedded import first_process

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("able")

LIMIT = 20.0  # seconds; an idle machine takes a fraction of one


@pytest.fixture
def own(base: Path) -> Iterator[Embedded]:
    """A separate embedded hypervisor for the test, not started."""
    state = base / f"e{sum(1 for _ in base.iterdir())}"
    state.mkdir()
    made = Embedded(state)
    yield made
    made.stop()


def inside(first: int) -> set[int]:
    """Return every process in the PID namespace of `first`."""
    space, found = Path(f"/proc/{first}/ns/pid").readlink(), set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns/pid").readlink() == space:
                found.add(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def alive(processes: set[int]) -> set[int]:
    """Return the processes that still run. Zombies are left out."""
    found = set()
    for process in processes:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(process)
    return found


def test_it_starts_once_and_stops_once(own: Embedded) -> None:
    """start() and stop() return True if they changed anything, and networks survive a restart."""
    assert (own.exists, own.running, own.stop()) == (False, False, False)
    assert (own.start(), own.start(), own.running, own.exists) == (True, False, True, True)
    with Libvirt("embedded", own) as connection:
        Network(connection, "kept").define(desired.network_xml("kept"))
        assert not connection.started
    assert (own.stop(), own.stop(), own.running, own.exists) == (True, False, False, True)
    with Libvirt("embedded", own) as connection:
        assert connection.started
        assert connection.local
        assert Network(connection, "kept").exists


def test_concurrent_starts_share_one_hypervisor(own: Embedded) -> None:
    """When three processes start it at once, they share one hypervisor, and exactly one reports that it started it."""
    code = "import sys; from pathlib import Path; from swarm.embedded import Embedded; "
    code += "print(Embedded(Path(sys.argv[1])).start())"
    argv = [sys.executable, "-c", code, str(own.state.parent)]
    starters = [subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sorted(starter.communicate()[0] for starter in starters) == ["False\n", "False\n", "True\n"]
    assert own.running
    daemons = [
        process
        for process in inside(first_process(own))
        if Path(f"/proc/{process}/comm").read_text() == "libvirtd\n"
    ]
    assert len(daemons) == 1


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_no_process_outlives_the_first_one(own: Embedded, how: str) -> None:
    """When it is stopped or its first process is killed, every process in it ends, including libvirt's helpers."""
    own.start()
    with Libvirt("embedded", own) as connection:
        network = Network(connection, "default")
        network.define(desired.network_xml("default"))
        network.activate()  # starts a helper: dnsmasq
    first = first_process(own)
    everything = inside(first)
    names = {Path(f"/proc/{process}/comm").read_text().strip() for process in everything}
    assert {"libvirtd", "dnsmasq"} <= names
    if how == "stop":
        own.stop()
    else:
        os.kill(first, signal.SIGKILL)
    limit = time.monotonic() + LIMIT
    while alive(everything):
        assert time.monotonic() < limit, alive(everything)
        time.sleep(0.01)
    assert not own.running
    assert own.start()


def pasta_process(first: int) -> int | None:
    """Return pasta's process ID, or None if it does not run."""
    for process in Path(f"/proc/{first}/task/{first}/children").read_text().split():
        name = Path(f"/proc/{process}/comm")
        if name.exists() and name.read_text().startswith(("passt", "pasta")):
            return int(process)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_pasta_is_restarted(own: Embedded, how: signal.Signals) -> None:
    """When pasta dies or hangs, it is restarted with the same addresses."""
    own.start()
    first = first_process(own)
    look = ["nsenter", f"--target={first}", "--net", "ip", "-brief", "address", "show", "dev", "uplink"]

    def address() -> list[str]:
        return subprocess.run(look, capture_output=True, text=True, check=False).stdout.split()[2:3]

    before, old = address(), pasta_process(first)
    assert before == ["169.254.53.2/24"]
    assert old is not None
    os.kill(old, how)
    limit = time.monotonic() + 3 * LIMIT  # a hang is detected after 8 s
    while pasta_process(first) in {old, None} or address() != before:
        assert time.monotonic() < limit, own.log_tail("pasta.log", 5)
        time.sleep(0.05)
    assert own.running
    assert own.no_way_out is None


def test_an_arp_request_detects_a_hanging_pasta(own: Embedded) -> None:
    """answers() returns True for a running pasta, False for a stopped one, and None for a missing interface."""
    own.start()
    first = first_process(own)
    code = f"import pulse; print([pulse.answers(name, {host.OUTSIDE!r}, 1) for name in ({host.UPLINK!r}, 'none')])"

    def ask() -> str:
        argv = ["nsenter", f"--target={first}", "--net", sys.executable, "-c", code]
        return subprocess.run(
            argv, capture_output=True, text=True, check=True, cwd=ROOT / "swarm" / "embedded"
        ).stdout.strip()

    assert ask() == "[True, None]"
    pasta = pasta_process(first)
    assert pasta is not None
    os.kill(pasta, signal.SIGSTOP)
    assert ask() == "[False, None]"


def test_it_starts_after_a_start_was_killed(own: Embedded) -> None:
    """After the start command was killed halfway, another start succeeds."""
    argv = [sys.executable, "-I", str(ROOT / "swarm/embedded/host.py"), "start", str(own.state), "0", "0"]
    with subprocess.Popen(argv, start_new_session=True) as starter:
        while not (own.state / "alive.lock").exists():
            time.sleep(0.001)
        starter.kill()
    own.start()
    assert own.running
    with Libvirt("embedded", own) as connection:
        assert connection.raw.isAlive()


def test_it_is_not_stopped_while_in_use(own: Embedded) -> None:
    """stop_if() stops it only when no other command uses it and it is idle."""
    own.start()
    with own.use():
        assert own.stop_if(lambda: True) is False
        assert own.running
    assert own.stop_if(lambda: False) is False
    assert own.running
    assert own.stop_if(lambda: True) is True
    assert not own.running


def machine() -> dict[str, str]:
    """Return the state of this machine that a hypervisor without namespaces would change."""

    def output(*argv: str) -> str:
        return (
            subprocess.run(argv, capture_output=True, text=True, check=False).stdout
            if shutil.which(argv[0])
            else ""
        )

    def interesting(text: str) -> str:
        return "\n".join(
            line
            for line in text.splitlines()
            if re.search(r"virbr|vnet|192\.168\.122|169\.254\.53|LIBVIRT|swarm-[^/]*/e", line)
        )

    folders = (
        "/etc/libvirt",
        "/run/libvirt",
        "/var/lib/libvirt",
        "/var/log/libvirt",
        "/var/cache/libvirt",
        "/run/dbus",
        "/dev/kvm",
    )
    return {
        "files": output("find", *folders, "-printf", "%p %s %m %u %T@\n"),
        "addresses": interesting(output("ip", "-o", "address")),
        "routes": interesting(output("ip", "route")),
        "iptables": interesting(output("iptables-save")),
        "nftables": interesting(output("nft", "list", "ruleset")),
        "mounts": interesting(Path("/proc/self/mountinfo").read_text()),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "network namespaces": interesting(output("ip", "netns")),
    }


def test_the_machine_is_unchanged(own: Embedded) -> None:
    """The machine's files and network stay unchanged while a libvirt network is active inside, and after the stop."""
    before = machine()
    own.start()
    with Libvirt("embedded", own) as connection:
        network = Network(connection, "default")
        network.define(desired.network_xml("default"))
        network.activate()
        rules = subprocess.run(
            ["nsenter", f"--net=/proc/{first_process(own)}/ns/net", "iptables-save"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "LIBVIRT" in rules.stdout  # libvirt did set up a firewall, inside
        during = machine()
    own.stop()
    assert during == before
    assert machine() == before


def test_other_users_are_denied(own: Embedded) -> None:
    """Other users can connect to neither the broker nor libvirt, even if they can enter the directories."""
    own.start()
    sockets = [own.broker, own.state / "run" / "libvirt-sock"]
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"

    def refusals() -> list[bool]:
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", code]
        tried = [
            subprocess.run([*argv, str(path)], capture_output=True, text=True, check=False, cwd="/")
            for path in sockets
        ]
        return [attempt.returncode == 1 and "PermissionError" in attempt.stderr for attempt in tried]

    assert refusals() == [True, True]
    for folder in (own.state.parent, own.state, own.state / "run"):
        folder.chmod(0o755)
    assert refusals() == [True, True]


def test_a_state_path_too_long_for_a_socket_is_rejected(tmp_path: Path) -> None:
    """A state directory whose path is too long is rejected before anything is created."""
    state = tmp_path / ("long" * 30)
    with pytest.raises(Unfit, match="is too long for a Unix socket") as caught:
        Embedded(state).start()
    assert caught.value.hint == "set SWARM_STATE to a directory with a shorter path"
    assert not state.exists()


def test_a_failed_start_reports_the_cause(own: Embedded) -> None:
    """The error shows the last message of a failed start. Once the cause is fixed, it starts."""
    own.state.mkdir()
    (own.state / "etc").write_text("in the way", encoding="utf-8")
    with pytest.raises(Unfit, match="the embedded hypervisor does not start: ") as caught:
        own.start()
    assert "File exists" in caught.value.message
    assert caught.value.hint
    assert str(own.state / "host.log") in caught.value.hint
    (own.state / "etc").unlink()
    assert own.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted by root")
def test_a_full_file_system_is_the_cause(own: Embedded) -> None:
    """A start for which no space is left says so, although no program could write a message to its log."""
    place = own.state.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    try:
        (place / "hypervisor").mkdir()
        subprocess.run(["dd", "if=/dev/zero", f"of={place}/fill"], check=False, stderr=subprocess.DEVNULL)
        with pytest.raises(
            Unfit, match=f"does not start: no space is left in the file system of {own.state}"
        ) as caught:
            own.start()
        assert caught.value.hint == "make room there, or set SWARM_STATE to a directory elsewhere"
    finally:
        subprocess.run(["umount", place], check=True)


def test_other_users_become_root_with_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """as_root() adds sudo for every user but root."""
    assert as_root(["x"]) == ["x"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert as_root(["x"]) == ["sudo", "--", "x"]


def test_log_tail_returns_the_last_lines(own: Embedded) -> None:
    """log_tail() returns the last lines of a log, and an empty list if the log does not exist."""
    own.state.mkdir()
    (own.state / "host.log").write_text("1\n2\n3\n", encoding="utf-8")
    assert own.log_tail("host.log", 2) == ["2", "3"]
    assert own.log_tail("log/none") == []


def test_connecting_fails_at_once_when_it_is_not_running(own: Embedded) -> None:
    """connect() raises an OSError if the hypervisor is not running."""
    with pytest.raises(OSError, match="no answer at"):
        own.connect("192.168.122.1", 22)
