"""Guests of a remote hypervisor are reached through it, by OpenSSH's own trust rules."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from swarm import access, ssh
from swarm.errors import Unreachable
from swarm.ssh.fresh import ask
from swarm.ssh.guest import Guest
from swarm.ssh.reasons import KeyRefused, NoAnswer
from swarm.ssh.session import Limits
from tests import samples
from tests.sshd import USER, Sshd, login_key, personal_ssh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Dirs


@dataclass(frozen=True)
class Jump:
    """A guest behind a hypervisor. `hypervisors` is the user's known_hosts file."""

    target: ssh.Target
    hypervisor: Sshd
    guest: Sshd
    hypervisors: Path


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Sshd, Path]]:
    """A hypervisor and a guest that accept the same key."""
    identity = tmp_path_factory.mktemp("key") / "id"
    public = login_key(identity)
    with (
        Sshd(tmp_path_factory.mktemp("box"), [public]) as box,
        Sshd(tmp_path_factory.mktemp("guest"), [public]) as guest,
    ):
        yield box, guest, identity


@pytest.fixture
def jump(
    servers: tuple[Sshd, Sshd, Path], dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Jump:
    """Return the guest as an SSH target."""
    hypervisor, guest, identity = servers
    known_hosts = tmp_path / "known_hosts"
    personal_ssh(
        tmp_path,
        f"Host *\n  UserKnownHostsFile {known_hosts}\n  IdentityFile {identity}\n  IdentitiesOnly yes\n",
        monkeypatch,
    )
    pinned = dirs.hosts / "zap.known_hosts"
    ssh.pin(pinned, ["zap"], guest.public)
    target = ssh.Target(
        "zap",
        "127.0.0.1",
        pinned,
        USER,
        identity,
        jump=ssh.Jump(f"ssh://{USER}@127.0.0.1:{hypervisor.port}"),
        port=guest.port,
    )
    return Jump(target, hypervisor, guest, known_hosts)


def guest(target: ssh.Target, *, booting: bool = False) -> Guest:
    """Return a Guest for a target."""
    ssh.write_config(target)
    return Guest(ssh.part_path(target.name), target.name, booting=booting)


def trust(jump: Jump) -> None:
    """Add the hypervisor's key to known_hosts, as a first login by hand does."""
    ssh.pin(jump.hypervisors, [f"[127.0.0.1]:{jump.hypervisor.port}"], jump.hypervisor.public)


def test_both_go_through_the_hypervisor(jump: Jump) -> None:
    """Guest and ssh reach the guest through the hypervisor, and trust the guest by its own pinned key."""
    trust(jump)
    reached = guest(jump.target)
    assert reached.run("id -un").stdout.strip() == USER
    reached.close()
    done = subprocess.run(
        ssh.argv(jump.target, ["id", "-un"]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == (USER, 0), done.stderr
    assert "direct-tcpip" in jump.hypervisor.log()


def test_an_unknown_hypervisor_is_not_trusted(jump: Jump) -> None:
    """A hypervisor with an unknown key receives nothing, and its key is not learned."""
    before = len(jump.hypervisor.log())
    with pytest.raises(Unreachable):
        guest(jump.target).run("true")
    done = subprocess.run(
        ssh.argv(jump.target, ["id"]), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 255
    assert "userauth-request" not in jump.hypervisor.log()[before:]
    assert not jump.hypervisors.exists()


def test_another_guest_behind_a_trusted_hypervisor_is_refused(jump: Jump) -> None:
    """With a trusted hypervisor and another key of the guest, both programs refuse the guest's key."""
    trust(jump)
    ssh.pin(jump.target.known_hosts, ["zap"], ssh.keypair("other")[1])
    with pytest.raises(KeyRefused):
        guest(jump.target).run("true")
    done = subprocess.run(
        ssh.argv(jump.target, ["id"]), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert "Host key verification failed" in done.stderr


def test_a_guest_that_is_not_up_yet_is_unreachable(jump: Jump) -> None:
    """An attempt that comes too early raises one error, although the hypervisor is reachable."""
    trust(jump)
    with pytest.raises(Unreachable, match=r"^zap: "):
        guest(replace(jump.target, port=1), booting=True).run("true")


def stranger(jump: Jump) -> ssh.Target:
    """Return the guest behind a hypervisor whose key is unknown."""
    return jump.target


def impostor(jump: Jump) -> ssh.Target:
    """Return the guest behind a hypervisor whose key has changed."""
    ssh.pin(jump.hypervisors, [f"[127.0.0.1]:{jump.hypervisor.port}"], ssh.keypair("other")[1])
    return jump.target


def refusing(jump: Jump) -> ssh.Target:
    """Return the guest behind a hypervisor that refuses the login."""
    trust(jump)
    return replace(jump.target, jump=ssh.Jump(f"ssh://nobody@127.0.0.1:{jump.hypervisor.port}"))


def silent(jump: Jump) -> ssh.Target:
    """Return the guest behind a hypervisor on which no SSH server runs."""
    return replace(jump.target, jump=ssh.Jump(f"ssh://{USER}@127.0.0.1:1"))


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (stranger, "Host key verification failed."),
        (impostor, "Host key for .* has changed and you have requested strict checking."),
        (refusing, "nobody@127.0.0.1: Permission denied .*"),
        (silent, "ssh: connect to host 127.0.0.1 port 1: Connection refused"),
    ],
)
def test_what_is_wrong_with_the_hypervisor_is_said_of_it(
    jump: Jump, way: Callable[[Jump], ssh.Target], words: str
) -> None:
    """A hypervisor that lets nobody through is the reason, over a kept connection or not, and never the guest."""
    target = way(jump)
    for call in (lambda: guest(target).run("true"), lambda: ask(ssh.part_path("zap"), "zap", ":", Limits())):
        with pytest.raises(Unreachable, match=rf"^zap: can't log in to the hypervisor, .*: {words}\n"):
            call()


def test_a_guest_behind_the_hypervisor_is_not_there(jump: Jump) -> None:
    """A guest that the hypervisor cannot reach is told apart from a hypervisor that is not there."""
    trust(jump)
    with pytest.raises(NoAnswer, match=r"^zap: no answer: the hypervisor cannot connect to the guest"):
        guest(replace(jump.target, port=1)).run("true")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("qemu:///system", None),
        ("qemu+ssh://root@box/system", "ssh://root@box"),
        ("qemu+ssh://box:2222/system", "ssh://box:2222"),
        ("qemu+libssh2://me@box.example:22/session", "ssh://me@box.example:22"),
        ("qemu+libssh://[fd00::1]:2222/system", "ssh://[fd00::1]:2222"),
        ("qemu+tls://box/system", None),
        ("qemu+unix:///system?socket=/x", None),
    ],
)
@pytest.mark.usefixtures("dirs")
def test_the_way_follows_the_hypervisors_address(uri: str, expected: str | None) -> None:
    """Guests are reached like libvirt: through the same user, machine and port."""
    assert access.target(samples.host(uri=f'"{uri}"', source="/srv/share")).jump == (
        expected and ssh.Jump(expected)
    )


@pytest.mark.usefixtures("dirs")
def test_who_logs_in_with_which_key() -> None:
    """Hosts that name no key use swarm's own. Otherwise the user's agent and keys are used."""
    own = access.target(samples.host())
    assert own.identity == ssh.own_key()
    assert access.authorized_keys(samples.host()) == [ssh.own_key().with_suffix(".pub").read_text().strip()]
    key = samples.public_key()
    named = samples.host(ssh_keys=f"['{key}']")
    assert access.target(named).identity is None
    assert access.authorized_keys(named) == [key]
    assert access.target(samples.host(uri="embedded")).embedded is not None
