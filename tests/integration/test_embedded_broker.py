"""The broker into the embedded hypervisor's network: sockets made inside, used outside, also by OpenSSH."""

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
    """The process that answers at the broker."""
    return first_process(embedded)


@pytest.fixture(scope="module")
def echo(first: int) -> Iterator[int]:
    """The port of a server inside that sends back what it gets."""
    argv = ["nsenter", f"--net=/proc/{first}/ns/net", sys.executable, "-c", _ECHO]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield int(server.stdout.readline())
        server.kill()


def test_a_connection_made_inside_is_used_outside(embedded: Embedded, echo: int) -> None:
    """The socket is an ordinary one: what is sent arrives inside, and the answer comes back, a megabyte of it too."""
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
        socket.create_connection(("127.0.0.1", echo), timeout=5)  # the machine itself has no such port


def test_many_at_once(embedded: Embedded, echo: int) -> None:
    """Connections do not wait for each other, and each is its own."""
    made = [embedded.connect("127.0.0.1", echo) for _ in range(3)]
    with embedded.connect(
        "127.0.0.1", echo
    ) as quick:  # open, though the echo server is busy with the first one
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
def test_what_fails_inside_fails_alike_outside(
    embedded: Embedded, host: str, port: int, limit: float, error: type[OSError]
) -> None:
    """The error is the one that a connection made here would have met, and the broker goes on."""
    with pytest.raises(error) as caught:
        embedded.connect(host, port, limit)
    assert not isinstance(caught.value, broker.Closed)
    assert embedded.running
    if host.startswith("fd00"):
        assert caught.value.errno in {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH}


def test_a_connection_has_its_limit(embedded: Embedded, first: int) -> None:
    """A machine that does not answer at all costs the given time and no more, and is told as a timeout."""
    inside = ["nsenter", f"--net=/proc/{first}/ns/net"]
    subprocess.run([*inside, "ip", "link", "add", "hole", "type", "bridge"], check=True)
    try:
        for words in (("address", "add", "198.51.100.1/24", "dev", "hole"), ("link", "set", "hole", "up")):
            subprocess.run([*inside, "ip", *words], check=True)
        subprocess.run(
            [*inside, "ip", "neighbour", "add", "198.51.100.9", "lladdr", "52:54:00:00:00:01", "dev", "hole"],
            check=True,
        )
        with pytest.raises(TimeoutError):
            embedded.connect("198.51.100.9", 22, 0.2)
    finally:
        subprocess.run([*inside, "ip", "link", "delete", "hole"], check=True)


@pytest.mark.parametrize(
    "words",
    [b"", b"nonsense", b"{}", b'{"connect": 1}', b'{"connect": [1, 2, 3]}', b"\xff" * 5000, b"[" * 4000],
)
def test_nonsense_is_no_harm(embedded: Embedded, words: bytes) -> None:
    """Whatever is said at the broker, it goes on answering."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(embedded.broker))
        client.sendall(words)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(10)
        with contextlib.suppress(ConnectionResetError):  # it hung up before it had read all
            client.recv(100)
    assert embedded.running


def test_as_a_program_it_says_what_is_wrong(embedded: Embedded) -> None:
    """OpenSSH's user sees one sentence and no traceback."""
    argv = [sys.executable, "-I", "-S", str(ROOT / "swarm/embedded/broker.py")]
    done = subprocess.run(
        [*argv, str(embedded.broker), "127.0.0.1", "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "broker: 127.0.0.1:1: Connection refused\n")
    done = subprocess.run(
        [*argv, "/no/such/broker", "127.0.0.1", "1"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "broker: 127.0.0.1:1: no answer at /no/such/broker\n")


def test_both_reach_a_guest_inside(embedded: Embedded, first: int, dirs: Dirs, tmp_path: Path) -> None:
    """Guest and ssh reach a server inside the namespace by the pinned key, and refuse another one."""
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


def test_a_stopped_vm_is_called_stopped(dirs: Dirs, tmp_path: Path) -> None:
    """Where no embedded hypervisor runs, no VM does: the error says so, and how to start it."""
    target = ssh.Target("zap", "192.168.122.9", dirs.hosts / "zap.known_hosts", embedded=Embedded(tmp_path))
    ssh.write_config(target)
    with pytest.raises(
        NoAnswer, match="zap: the VM is not running, and neither is the embedded hypervisor"
    ) as caught:
        Guest(ssh.part_path("zap"), "zap").run("true")
    assert caught.value.hint == "./inv start --host zap"
