"""A port of the guest that leads back to this machine. The server is OpenSSH's own."""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.agentmon.receiver import Receiver
from swarm.errors import CommandFailed
from swarm.ssh.forward import reverse
from swarm.ssh.guest import Guest
from swarm.templates import render
from tests.agentmon_events import event
from tests.sshd import Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

PATIENCE = 60


@pytest.fixture(params=["as it comes", "as installed"])
def target(request: pytest.FixtureRequest, server: Sshd, limited: Sshd, keys: Path, dirs: Dirs) -> ssh.Target:
    """The server as a guest: with OpenSSH's own settings, and with those that `inv install` makes."""
    chosen = limited if request.param == "as installed" else server
    return chosen.target(dirs.hosts / "zap.known_hosts", keys)


@pytest.fixture(scope="module")
def limited(gateway: socket.socket, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server with the settings that `inv install` makes."""
    settings = render("guest/sshd.conf.j2", port=gateway.getsockname()[1])
    key = keys.with_suffix(".pub").read_text()
    with Sshd(tmp_path_factory.mktemp("limited"), [key], settings=settings) as made:
        yield made


@pytest.fixture(scope="module")
def gateway() -> Iterator[socket.socket]:
    """A listener in the place of the gateway."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def guest(target: ssh.Target) -> Iterator[Guest]:
    """Give a guest over a kept connection."""
    ssh.write_config(target)
    made = Guest(ssh.part_path(target.name), target.name)
    made.check("true", "the first command")
    yield made
    made.close()


def test_an_event_comes_back_through_the_forward(guest: Guest) -> None:
    """What a program in the guest posts to the forwarded port arrives at a receiver on this machine."""
    with Receiver() as receiver, reverse(guest.link, receiver.port) as port:
        body = json.dumps(event(id="through"))
        command = ["curl", "-sS", "-m", "30", "--data", body, f"http://127.0.0.1:{port}/v1/events"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            with receiver.take(PATIENCE) as delivery:
                assert delivery
                assert [each.id for each in delivery.events] == ["through"]
            assert client.communicate()[0] == b'{"accepted":1}\n'


def test_the_port_is_closed_after_the_block(guest: Guest) -> None:
    """After the block nothing listens on the guest's port, and the connection still serves."""
    with Receiver() as receiver, reverse(guest.link, receiver.port) as port:
        socket.create_connection(("127.0.0.1", port), 10).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 10)
    assert guest.check("echo alive", "echo") == "alive\n"


def test_without_a_kept_connection_it_says_so(guest: Guest) -> None:
    """Without a kept connection there is nothing to forward over, and that is an error of this host."""
    guest.close()
    with pytest.raises(CommandFailed, match="can't forward a port of the guest"), reverse(guest.link, 9):
        pass


def login(server: Sshd, keys: Path, dirs: Dirs, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ssh, beside an agent without keys, with these words. One of them is the host's name, zap."""
    known_hosts = dirs.hosts / f"{server.port}.known_hosts"
    config = ssh.write_config(server.target(known_hosts, keys))
    return subprocess.run(
        ["ssh-agent", "ssh", "-F", str(config), "-o", "BatchMode=yes", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def test_only_the_gateway_is_reached_through(
    limited: Sshd, gateway: socket.socket, keys: Path, dirs: Dirs
) -> None:
    """An installed guest forwards connections to the gateway's port, and to no other."""
    port = gateway.getsockname()[1]
    gateway.settimeout(PATIENCE)
    config = ssh.write_config(limited.target(dirs.hosts / "zap.known_hosts", keys))
    command = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "-W", f"127.0.0.1:{port}", "zap"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as through,
        closing(gateway.accept()[0]) as accepted,
    ):
        assert through.stdin
        through.stdin.write(b"hello")
        through.stdin.close()
        assert accepted.recv(5, socket.MSG_WAITALL) == b"hello"
    for other in (f"127.0.0.1:{limited.port}", f"10.0.2.2:{port}"):
        refused = login(limited, keys, dirs, "-W", other, "zap")
        assert "administratively prohibited" in refused.stderr
        assert refused.returncode


@pytest.mark.parametrize(
    ("where", "allowed"), [("", True), ("localhost:", True), ("0.0.0.0:", False), ("10.0.2.15:", False)]
)
def test_a_guest_listens_only_on_loopback(
    *, where: str, allowed: bool, limited: Sshd, keys: Path, dirs: Dirs
) -> None:
    """What a connection lets an installed guest listen on is loopback."""
    asked = ["-o", "ExitOnForwardFailure=yes", "-R", f"{where}0:127.0.0.1:9", "zap", "true"]
    assert (login(limited, keys, dirs, *asked).returncode == 0) is allowed


def test_no_agent_and_no_socket(server: Sshd, limited: Sshd, keys: Path, dirs: Dirs, tmp_path: Path) -> None:
    """An installed guest gets neither the user's agent nor a socket, even if ssh is asked to forward them."""
    listen = ["-o", "ExitOnForwardFailure=yes", "-R"]
    for each, taken in ((server, True), (limited, False)):
        answer = login(each, keys, dirs, "-A", "zap", 'echo "agent ${SSH_AUTH_SOCK:-none}"')
        assert answer.stdout.startswith("agent /") is taken, answer.stderr
        done = login(each, keys, dirs, *listen, f"{tmp_path}/{taken}:127.0.0.1:9", "zap", "true")
        assert (done.returncode == 0) is taken, done.stderr
