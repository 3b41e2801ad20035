"""The broker passes sockets from the embedded hypervisor's network to processes outside, including OpenSSH."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.embedded import Embedded, broker
from swarm.paths import ROOT
from swarm.ssh.guest import Guest
from swarm.ssh.reasons import KeyRefused, NoAnswer, PortClosed
from tests.embedded import first_process
from tests.sshd import USER, Sshd, login_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Dirs

_ECHO = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    caller, _ = listener.accept()
    with caller:
        while data := caller.recv(65536):
            caller.sendall(data)
"""


@pytest.fixture(scope="module")
def first(embedded: Embedded) -> int:
    """The ID of the broker's process."""
    return first_process(embedded)


@pytest.fixture(scope="module")
def echo(first: int) -> Iterator[int]:
    """The port of an echo server inside the namespace."""
    argv = ["nsenter", f"--net=/proc/{first}/ns/net", sys.executable, "-c", _ECHO]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield int(server.stdout.readline())
        server.kill()


def test_a_connection_made_inside_works_outside(embedded: Embedded, echo: int) -> None:
    """A megabyte sent through the socket comes back from a server that the machine itself cannot reach."""
    data = os.urandom(1 << 20)
    with embedded.connect("127.0.0.1", echo) as made:
        sender = threading.Thread(target=made.sendall, args=(data,))
        sender.start()
        received = b""
        while len(received) < len(data):
            received += made.recv(65536)
        sender.join()
    assert received == data
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", echo), timeout=5)  # the machine does not listen on this port


def test_connections_are_independent(embedded: Embedded, echo: int) -> None:
    """A new connection opens while the server is still busy with earlier ones."""
    made = [embedded.connect("127.0.0.1", echo) for _ in range(3)]
    # The echo server is busy with the first connection.
    with embedded.connect("127.0.0.1", echo) as quick:
        assert quick.getpeername() == ("127.0.0.1", echo)
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("host", "port", "limit", "error"),
    [
        ("127.0.0.1", 1, 5, ConnectionRefusedError),
        ("fd00:53::1", 22, 5, OSError),
        ("no.such.machine.invalid.", 22, 5, OSError),
        ("127.0.0.1", 99999, 5, OSError),
    ],
    ids=["refused", "unreachable", "no such name", "no such port"],
)
def test_connection_errors_are_passed_to_the_caller(
    embedded: Embedded, host: str, port: int, limit: float, error: type[OSError]
) -> None:
    """connect() raises the error that occurred inside, and the broker stays available."""
    with pytest.raises(error) as caught:
        embedded.connect(host, port, limit)
    assert not isinstance(caught.value, broker.Closed)
    assert embedded.running
    if host.startswith("fd00"):
        assert caught.value.errno in {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH}


def test_connecting_times_out(embedded: Embedded, first: int) -> None:
    """Connecting to an unresponsive address raises TimeoutError after the given limit."""
    inside = ["nsenter", f"--net=/proc/{first}/ns/net"]
    subprocess.run([*inside, "ip", "link", "add", "hole", "type", "bridge"], check=True)
    try:
        for arguments in (
            ("address", "add", "198.51.100.1/24", "dev", "hole"),
            ("link", "set", "hole", "up"),
        ):
            subprocess.run([*inside, "ip", *arguments], check=True)
        subprocess.run(
            [*inside, "ip", "neighbour", "add", "198.51.100.9", "lladdr", "52:54:00:00:00:01", "dev", "hole"],
            check=True,
        )
        with pytest.raises(TimeoutError):
            embedded.connect("198.51.100.9", 22, 0.2)
    finally:
        subprocess.run([*inside, "ip", "link", "delete", "hole"], check=True)


@pytest.mark.parametrize(
    "request_bytes",
    [b"", b"nonsense", b"{}", b'{"connect": 1}', b'{"connect": [1, 2, 3]}', b"\xff" * 5000, b"[" * 4000],
)
def test_the_broker_survives_malformed_requests(embedded: Embedded, request_bytes: bytes) -> None:
    """The broker stays available after a malformed request."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(embedded.broker))
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(10)
        with contextlib.suppress(ConnectionResetError):  # it closed the connection before reading everything
            client.recv(100)
    assert embedded.running


def test_the_program_reports_errors_in_one_line(embedded: Embedded) -> None:
    """The program prints one line and no traceback when it cannot connect."""
    argv = [sys.executable, "-I", "-S", str(ROOT / "swarm/embedded/broker.py")]
    done = subprocess.run(
        [*argv, str(embedded.broker), "127.0.0.1", "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "broker: 127.0.0.1:1: Connection refused\n")
    done = subprocess.run(
        [*argv, "/no/such/broker", "127.0.0.1", "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "broker: 127.0.0.1:1: no answer at /no/such/broker\n")


def test_guest_and_ssh_reach_a_server_inside(
    embedded: Embedded, first: int, dirs: Dirs, tmp_path: Path
) -> None:
    """Guest and ssh connect to a server inside the namespace if its host key is pinned, and reject another key."""
    identity = tmp_path / "id"
    with Sshd(tmp_path / "sshd", [login_key(identity)], within=first) as server:
        known_hosts = dirs.hosts / "zap.known_hosts"
        ssh.pin(known_hosts, ["zap"], server.public)
        target = ssh.Target(
            "zap", "127.0.0.1", known_hosts, USER, identity, embedded=embedded, port=server.port
        )
        ssh.write_config(target)
        guest = Guest(ssh.part_path("zap"), "zap")
        assert guest.run("id -un").stdout.strip() == USER
        guest.close()
        argv = ssh.argv(target, ["id", "-un"])
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.returncode) == (USER, 0), done.stderr
        ssh.pin(known_hosts, ["zap"], ssh.keypair("other")[1])
        with pytest.raises(KeyRefused):
            Guest(ssh.part_path("zap"), "zap").run("true")
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert "Host key verification failed" in done.stderr
    with pytest.raises(PortClosed, match="refused"):
        Guest(ssh.part_path("zap"), "zap").run("true")
    assert Path(f"/proc/{first}").exists()


def test_a_stopped_hypervisor_is_reported(dirs: Dirs, tmp_path: Path) -> None:
    """If the embedded hypervisor is not running, the error says so, and the hint starts the VM."""
    target = ssh.Target("zap", "192.168.122.9", dirs.hosts / "zap.known_hosts", embedded=Embedded(tmp_path))
    ssh.write_config(target)
    with pytest.raises(
        NoAnswer, match="zap: the VM is not running, and neither is the embedded hypervisor"
    ) as caught:
        Guest(ssh.part_path("zap"), "zap").run("true")
    assert caught.value.hint == "./inv start --host zap"
