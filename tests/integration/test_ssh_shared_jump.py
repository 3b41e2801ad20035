"""All guests behind a remote hypervisor share one connection to it, which is not kept for long."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.ssh.fresh import ask
from swarm.ssh.guest import Guest
from swarm.ssh.reasons import NoAnswer
from swarm.ssh.session import Limits
from tests.sshd import USER, Sshd, login_key, personal_ssh

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Dirs

GUESTS = [f"g{number}" for number in range(32)]
SLACK = 60.0  # seconds that a loaded machine may need; an unused connection is kept for ten


@dataclass(frozen=True)
class Way:
    """A hypervisor, the guest behind it, and the user's own configuration of ssh, which trusts the hypervisor."""

    box: Sshd
    guest: Sshd
    identity: Path
    known_hosts: Path
    config: Path
    pins: Path

    @property
    def jump(self) -> ssh.Jump:
        """The hypervisor."""
        return ssh.Jump(f"ssh://{USER}@127.0.0.1:{self.box.port}")

    def configure(self, *names: str, jump: ssh.Jump | None = None, port: int = 0) -> list[Path]:
        """Write the configuration of guests that are all the same server, and return its parts."""
        ssh.pin(self.pins, GUESTS, self.guest.public)
        ssh.write_configs(
            ssh.Target(
                name,
                "127.0.0.1",
                self.pins,
                USER,
                self.identity,
                jump=jump or self.jump,
                port=port or self.guest.port,
            )
            for name in names
        )
        return [ssh.part_path(name) for name in names]

    @property
    def logins(self) -> int:
        """How many logins the hypervisor has accepted."""
        return self.box.log().count("Accepted publickey")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Sshd, Path]]:
    """A hypervisor with OpenSSH's own MaxStartups and a guest. They accept the same key."""
    identity = tmp_path_factory.mktemp("key") / "id"
    public = login_key(identity)
    with (
        Sshd(tmp_path_factory.mktemp("box"), [public], settings="MaxStartups 10:30:100") as box,
        Sshd(tmp_path_factory.mktemp("guest"), [public]) as guest,
    ):
        yield box, guest, identity


@pytest.fixture
def way(servers: tuple[Sshd, Sshd, Path], dirs: Dirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Return the way to the guest. A program named ssh reads the test's configuration instead of the user's own."""
    box, guest, identity = servers
    known_hosts = tmp_path / "known_hosts"
    ssh.pin(known_hosts, [f"[127.0.0.1]:{box.port}"], box.public)
    config = personal_ssh(
        tmp_path,
        f"Host *\n  UserKnownHostsFile {known_hosts}\n  IdentityFile {identity}\n  IdentitiesOnly yes\n",
        monkeypatch,
    )
    return Way(box, guest, identity, known_hosts, config, dirs.hosts / "pins")


def answers(parts: list[Path]) -> list[str]:
    """Run a command in every guest, up to 16 at the same time, and return the output of each."""

    def answer(part: Path) -> str:
        guest = Guest(part, part.stem)
        try:
            return str(guest.run("id -un").stdout.strip())
        finally:
            guest.close()

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(answer, parts))


def socket_of(part: Path) -> Path:
    """Return the control socket of the shared connection, as the guest's configuration names it."""
    (line,) = (line for line in part.read_text(encoding="utf-8").splitlines() if "ProxyCommand" in line)
    return Path(shlex.split(line)[5])


def master_of(part: Path) -> int:
    """Return the process that keeps the shared connection."""
    done = subprocess.run(
        ["ssh", "-o", f"ControlPath={socket_of(part)}", "-O", "check", "x"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr.split("pid=")[1].split(")")[0])


def test_many_guests_behind_one_hypervisor_all_answer(way: Way) -> None:
    """32 guests that are reached side by side take one login at the hypervisor, whose sshd limits logins."""
    before = way.logins
    assert answers(way.configure(*GUESTS)) == [USER] * len(GUESTS)
    assert way.logins == before + 1


@pytest.mark.slow
def test_many_guests_find_a_connection_that_was_killed(way: Way) -> None:
    """A socket without a process behind it is replaced, also if many guests find it at the same time."""
    parts = way.configure(*GUESTS)
    answers(parts[:1])
    os.kill(master_of(parts[0]), signal.SIGKILL)
    before = way.logins
    assert socket_of(parts[0]).exists()
    assert answers(parts) == [USER] * len(GUESTS)
    assert way.logins == before + 1


@pytest.mark.slow
def test_the_shared_connection_holds_nothing_and_ends(way: Way) -> None:
    """The process that keeps the connection has no file or lock of swarm open, and ends soon after its last use."""
    (part,) = way.configure("g0")
    assert ask(part, "g0", "echo answer", Limits()) == b"answer\n"
    pid = master_of(part)
    opened = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH115, PTH208
    assert [name for name in opened if not name.startswith(("/dev/null", "socket:", "anon_inode:"))] == []
    assert len(os.fsencode(socket_of(part))) < 104
    limit = time.monotonic() + SLACK
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert not socket_of(part).exists()


def test_a_connection_that_the_user_keeps_is_used(way: Way, tmp_path: Path) -> None:
    """A connection to the hypervisor that the user keeps open is used, since its login may need a hand."""
    with way.config.open("a", encoding="utf-8") as config:
        config.write(f"  ControlMaster auto\n  ControlPath {tmp_path}/own\n")
    destination = way.jump.destination
    subprocess.run(["ssh", "-fN", destination], check=True)
    before = way.logins
    assert answers(way.configure("g0", "g1")) == [USER] * 2
    assert way.logins == before
    subprocess.run(["ssh", "-O", "exit", destination], check=True, capture_output=True)


def test_the_files_of_the_uri_are_used(way: Way, tmp_path: Path) -> None:
    """The hypervisor is reached with the private key and the known hosts that its URI names, whatever their names."""
    folder = tmp_path / "a 'b' \"c\" 100%h $(id)"
    folder.mkdir()
    files = (way.identity, way.known_hosts)
    keyfile, known_hosts = (Path(shutil.copy(path, folder / f"{path.name} %%")) for path in files)
    way.config.write_text("Host *\n  UserKnownHostsFile /dev/null\n  IdentityFile /nonexistent\n")
    jump = ssh.Jump(way.jump.destination, keyfile, known_hosts)
    assert answers(way.configure("g0", jump=jump)) == [USER]


def test_a_guest_that_the_hypervisor_cannot_reach(way: Way) -> None:
    """A guest whose SSH server is not there is told apart from a hypervisor that is not."""
    (part,) = way.configure("g0", port=1)
    with pytest.raises(NoAnswer, match=r"^g0: no answer: the hypervisor cannot connect to the guest"):
        ask(part, "g0", "true", Limits())
