"""The ladder against OpenSSH's own server, whose /run plays the guest's: from the port to cloud-init's last word."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.console import Meter, Screen, Talk
from swarm.deadline import Deadline
from swarm.errors import Unreachable, VerificationFailed
from swarm.vm.ladder import Climb, climb
from tests.sshd import Sshd, login_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the server's own /run needs a mount namespace")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Path]]:
    """A server and the key that it lets in."""
    identity = tmp_path_factory.mktemp("key") / "id"
    with Sshd(tmp_path_factory.mktemp("guest"), [login_key(identity)]) as server:
        yield server, identity


@pytest.fixture
def way(guest: tuple[Sshd, Path], dirs: Dirs) -> Iterator[Climb]:
    """A climb towards the guest, its key pinned, without a share."""
    server, identity = guest
    told = server.run / "cloud-init"
    told.mkdir(exist_ok=True)
    for path in told.iterdir():
        path.unlink()
    made = Climb(
        server.target(dirs.hosts / "zap.known_hosts", identity),
        lambda: "running",
        lambda: ["the console"],
        None,
    )
    yield made
    made.close()


def tell(server: Sshd, name: str, data: object) -> None:
    """Let cloud-init write one of its files."""
    (server.run / "cloud-init" / name).write_text(
        data if isinstance(data, str) else json.dumps(data), encoding="utf-8"
    )


def quiet() -> Talk:
    """Return a talk that nobody hears."""
    return Talk(Screen(), quiet=True)


def test_a_guest_that_is_ready_is_climbed_to_the_top(guest: tuple[Sshd, Path], way: Climb) -> None:
    """Port, key, login and cloud-init: all are found in order, over one connection, which is closed at the end."""
    tell(guest[0], "result.json", {"v1": {"datasource": "NoCloud", "errors": []}})
    names = [rung.name for rung in climb(way, Deadline(60), quiet())]
    assert names == ["domain running", "SSH port open", "pinned host key shown", "login", "cloud-init done"]
    assert way.connection is None


def test_cloud_inits_own_error_is_the_error(guest: tuple[Sshd, Path], way: Climb) -> None:
    """If cloud-init failed, nobody waits for it: its first words are what is told."""
    tell(guest[0], "result.json", {"v1": {"errors": ["('scripts', ProcessExecutionError)", "more"]}})
    with pytest.raises(
        VerificationFailed, match=r"cloud-init in zap reports: \('scripts', ProcessExecutionError\)"
    ) as caught:
        climb(way, Deadline(3600), quiet())
    assert caught.value.hint == "./inv ssh --host zap -- cloud-init status --long"
    assert "the console" in caught.value.message


STAGES = [
    (None, "cloud-init: starting"),
    ({"v1": {"stage": "modules-config"}}, "cloud-init: modules-config"),
    ({"v1": {"stage": None}}, "cloud-init: starting"),
    ("half a fi", "cloud-init: starting"),
    ("[1]", "cloud-init: starting"),
]


def test_while_cloud_init_works_its_stage_is_shown(guest: tuple[Sshd, Path], way: Climb) -> None:
    """Whatever its files say, or do not say yet, the look ends with "not yet", and what it does is shown."""
    for status, note in STAGES:
        if status is not None:
            tell(guest[0], "status.json", status)
        notes: list[str] = []
        assert way.cloud_init(Meter(lambda notes=notes, **fields: notes.append(fields["note"]))) is False
        assert notes == [note]
    tell(guest[0], "result.json", {"v1": {"errors": []}})
    assert way.cloud_init(Meter(lambda **_: None)) is True


def test_a_connection_that_breaks_is_made_anew(guest: tuple[Sshd, Path], way: Climb) -> None:
    """A guest that drops the connection (sshd restarts during the first boot) is asked again over a new one."""
    tell(guest[0], "result.json", {"v1": {"errors": []}})
    meter = Meter(lambda **_: None)
    assert way.login(meter)
    assert way.connection
    way.connection.client.get_transport().sock.close()
    looks = [way.cloud_init(meter) for _ in range(2)]
    assert looks[-1] is True


def test_another_host_key_ends_the_climb(way: Climb) -> None:
    """A guest with another key is not waited for."""
    ssh.pin(way.target.known_hosts, ["zap"], ssh.keypair("other")[1])
    with pytest.raises(ssh.KeyRefused, match="zap shows another host key"):
        climb(way, Deadline(3600), quiet())


def test_a_login_that_is_refused_is_waited_for_but_not_for_good(
    guest: tuple[Sshd, Path], way: Climb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sshd may be up before the keys are there, so a refusal is borne for a while; then it is told as what it is."""
    identity = tmp_path / "other"
    login_key(identity)
    monkeypatch.setattr("swarm.vm.ladder._LOGIN_PATIENCE", 0.0)
    stranger = Climb(guest[0].target(way.target.known_hosts, identity), way.state, way.console, None)
    meter = Meter(lambda **_: None)
    assert stranger.key(meter) is True
    assert stranger.login(meter) is False
    with pytest.raises(ssh.LoginRefused, match="the guest refuses the login as") as caught:
        climb(stranger, Deadline(3600), quiet())
    assert caught.value.hint
    assert "openclaw.ssh_keys" in caught.value.hint


def test_a_share_that_is_not_mounted_is_named(guest: tuple[Sshd, Path], way: Climb) -> None:
    """A folder that is no virtiofs mount does not count, and the rung is named when the time is up."""
    tell(guest[0], "result.json", {"v1": {"errors": []}})
    way.share = ("swarm", "/run/it's not mounted")
    with pytest.raises(Unreachable, match="zap: 'share mounted' was not reached"):
        climb(way, Deadline(0), quiet())
