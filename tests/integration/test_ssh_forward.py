"""A port of the guest that leads back to this machine. The server is OpenSSH's own."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.agentmon.receiver import Receiver
from swarm.errors import CommandFailed
from swarm.ssh.forward import reverse
from swarm.ssh.guest import Guest
from tests.agentmon_events import event

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60


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
