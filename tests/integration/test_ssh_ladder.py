"""The ladder against OpenSSH's own server, whose /run plays the guest's: from the port to cloud-init's last word."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.console import Meter, Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import Unreachable, VerificationFailed
from swarm.ssh.guest import Guest
from swarm.ssh.reasons import KeyRefused, LoginRefused
from swarm.vm.ladder import Ladder, wait_for_guest
from tests.sshd import Sshd, login_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the server's own /run needs a mount namespace")


@dataclass(frozen=True)
class Machine:
    """A server that plays a guest, the key that it accepts, and the file in which its host key is pinned."""

    server: Sshd
    identity: Path
    pins: Path

    def write(self, name: str, data: object) -> None:
        """Write one of cloud-init's files."""
        text = data if isinstance(data, str) else json.dumps(data)
        (self.server.run / "cloud-init" / name).write_text(text, encoding="utf-8")

    def ladder(
        self,
        *,
        identity: Path | None = None,
        share: tuple[str, str] | None = None,
        limit: float = 3600,
        patience: float = 90,
    ) -> Ladder:
        """Return a ladder for this machine."""
        ssh.write_config(self.server.target(self.pins, identity or self.identity))
        return Ladder(
            Guest(ssh.part_path("zap"), "zap", booting=True),
            user="root",
            state=lambda: "running",
            console=lambda: ["the console"],
            share=share,
            deadline=Deadline(limit),
            patience=patience,
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Path]]:
    """A server and the key that it accepts."""
    identity = tmp_path_factory.mktemp("key") / "id"
    with Sshd(tmp_path_factory.mktemp("guest"), [login_key(identity)]) as server:
        yield server, identity


@pytest.fixture
def machine(shared: tuple[Sshd, Path], dirs: Dirs) -> Iterator[Machine]:
    """The server without any of cloud-init's files, and without a kept connection afterwards."""
    server, identity = shared
    files = server.run / "cloud-init"
    files.mkdir(exist_ok=True)
    for path in files.iterdir():
        path.unlink()
    made = Machine(server, identity, dirs.hosts / "zap.known_hosts")
    yield made
    made.ladder().guest.close()


def quiet() -> Talk:
    """Return a talk that shows nothing."""
    return Talk(Screen(), quiet=True)


def test_a_guest_that_is_ready_reaches_the_top(machine: Machine) -> None:
    """Port, key, login and cloud-init are found in order, over one connection."""
    machine.write("result.json", {"v1": {"datasource": "NoCloud", "errors": []}})
    before = machine.server.log().count("Accepted publickey")
    names = [rung.name for rung in wait_for_guest(machine.ladder(), quiet())]
    assert names == ["domain running", "SSH port open", "pinned host key shown", "login", "cloud-init done"]
    assert machine.server.log().count("Accepted publickey") == before + 1


def test_cloud_inits_own_error_is_the_error(machine: Machine) -> None:
    """If cloud-init failed, the wait ends with its first error."""
    machine.write("result.json", {"v1": {"errors": ["('scripts', ProcessExecutionError)", "more"]}})
    expected = r"cloud-init in zap failed: \('scripts', ProcessExecutionError\)"
    with pytest.raises(VerificationFailed, match=expected) as caught:
        wait_for_guest(machine.ladder(), quiet())
    assert caught.value.hint == "./inv ssh --host zap -- cloud-init status --long"
    assert "the console" in caught.value.message


STAGES = [
    (None, "cloud-init: starting"),
    ({"v1": {"stage": "modules-config"}}, "cloud-init: modules-config"),
    ("half a fi", "cloud-init: starting"),
]


def test_while_cloud_init_works_its_stage_is_shown(machine: Machine) -> None:
    """Whatever its files say, or do not say yet, the attempt ends with "not yet" and shows the stage."""
    ladder = machine.ladder()
    for status, note in STAGES:
        if status is not None:
            machine.write("status.json", status)
        notes: list[str] = []
        assert ladder.cloud_init(Meter(lambda notes=notes, **fields: notes.append(fields["note"]))) is False
        assert notes == [note]
    machine.write("result.json", {"v1": {"errors": []}})
    assert ladder.cloud_init(Meter(lambda **_: None)) is True


def test_an_endless_file_of_cloud_init_is_cut(machine: Machine) -> None:
    """A result file of any size is read only up to a limit, and is then "not yet"."""
    machine.write("result.json", "[" * (5 << 20))
    assert machine.ladder().cloud_init(Meter(lambda **_: None)) is False


def test_another_host_key_ends_the_wait(machine: Machine) -> None:
    """A guest with another key is not waited for."""
    ssh.pin(machine.pins, ["zap"], ssh.keypair("other")[1])
    with pytest.raises(KeyRefused, match="zap: the host key does not match the pinned key"):
        wait_for_guest(machine.ladder(), quiet())


def test_a_refused_login_is_waited_for_but_not_forever(machine: Machine, tmp_path: Path) -> None:
    """Sshd may be up before the keys are there, so a refusal is accepted for a while and reported then."""
    login_key(tmp_path / "other")
    ladder = machine.ladder(identity=tmp_path / "other", patience=0)
    meter = Meter(lambda **_: None)
    assert ladder.port(meter) is True
    assert ladder.key(meter) is True
    assert ladder.login(meter) is False
    with pytest.raises(LoginRefused, match="the guest refuses the login as root") as caught:
        wait_for_guest(ladder, quiet())
    assert caught.value.hint
    assert "openclaw.ssh_keys" in caught.value.hint


def test_a_share_that_is_not_mounted_is_named(machine: Machine) -> None:
    """A directory that is no virtiofs mount does not count, and the error names the rung."""
    machine.write("result.json", {"v1": {"errors": []}})
    ladder, meter = machine.ladder(share=("swarm", "/run/it's not mounted")), Meter(lambda **_: None)
    # All other rungs are reached before the time is over, however long the login takes.
    assert all(attempt(meter) for name, attempt in ladder.rungs() if name != "share mounted")
    ladder.deadline = Deadline(10)  # for them to be reached again
    with pytest.raises(Unreachable, match="zap: 'share mounted' was not reached"):
        wait_for_guest(ladder, quiet())
