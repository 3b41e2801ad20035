"""What install, customize and verify do on machines of their own: another release, and systems without OpenClaw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.errors import Refused
from swarm.guest.customize import customize
from swarm.guest.engine.converge import converge
from swarm.guest.install import openclaw
from swarm.guest.install.steps import install
from swarm.guest.verify import Expected, verify
from swarm.inventory.inside import Customize, InstallSettings
from tests.nspawn.installed import OWN, SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.console import Talk
    from tests.nspawn.installed import NextRelease
    from tools.lab import Machine

pytestmark = pytest.mark.slow


def test_the_next_release(next_release: NextRelease, talk: Talk) -> None:
    """On Debian 13, which bans with nft and has buildx, every promise is kept, and a second run does nothing."""
    newer, settings = next_release.host(), next_release.settings
    expected = Expected(swappiness=10, timezone="Europe/Berlin", ssh_keys=settings.ssh_keys, buildx=True)
    promises = verify(newer.guest(), expected, talk).checks
    assert [promise for promise in promises if promise.result == "broken"] == []
    assert sum(promise.result == "kept" for promise in promises) >= 30
    assert not install(newer.guest(), settings, talk)
    assert not customize(newer.guest(), OWN, talk)


def test_seed(machine: Machine, talk: Talk, tmp_path: Path) -> None:
    """An initial configuration is installed once, readable by the user only. Later runs leave it unchanged."""
    path = tmp_path / "openclaw.json"
    path.write_text('{"gateway": {"mode": "local", "auth": {"token": "a-token-of-my-own"}}}\n')
    settings = InstallSettings.model_validate({"config": str(path), "user": "seeded"})
    wanted = [*openclaw.account(settings, ()), openclaw.first_config(settings, path.read_text())]
    guest = machine.guest()
    converge(guest, wanted, talk)
    there = "/home/seeded/.openclaw/openclaw.json"
    assert machine.ssh(f"cat {there}; stat -c '%a %U' {there}") == f"{path.read_text()}600 seeded\n"
    machine.ssh(f"echo mine >{there}")
    assert not converge(guest, wanted, talk)
    assert machine.ssh(f"cat {there}") == "mine\n"


def test_customize_without_the_user(machine: Machine, talk: Talk) -> None:
    """Customizing a host without an installation fails with a hint to install first."""
    with pytest.raises(Refused, match="run `inv install` first"):
        customize(machine.guest(), Customize(), talk, user="nobody-yet")


def test_unknown_system(machine: Machine, talk: Talk) -> None:
    """An unsupported system is named and refused before any change."""
    fedora = 'ID=fedora\nVERSION_ID=41\nPRETTY_NAME="Fedora Linux 41"\n'
    machine.ssh(f"cp -a /usr/lib/os-release /root/os-release; printf '{fedora}' >/usr/lib/os-release")
    try:
        with pytest.raises(
            Refused, match=r"the guest runs Fedora Linux 41; expected Debian 12, Ubuntu 22.04, or a later"
        ):
            install(machine.guest(), SETTINGS, talk)
    finally:
        machine.ssh("mv /root/os-release /usr/lib/os-release")


def test_verify_logs_in_once(machine: Machine, talk: Talk) -> None:
    """However many promises there are, all are tested over one connection."""
    count = "journalctl -q -t sshd -g 'Accepted publickey' -o cat | wc -l"
    before = int(machine.ssh(count))
    verify(machine.guest(), Expected(), talk)
    machine.guest().close()
    assert int(machine.ssh(count)) - before <= 2  # the question's own login is one of them


def test_broken_promise(machine: Machine, talk: Talk) -> None:
    """Broken promises are reported, each with the observed state."""
    promises = {
        promise.text: promise for promise in verify(machine.guest(), Expected(swappiness=77), talk).checks
    }
    found = machine.ssh("cat /proc/sys/vm/swappiness").strip()
    swappiness, firewall, gateway = (
        promises[text]
        for text in (
            "vm.swappiness has the value of the host file.",
            "The firewall starts at boot.",
            "The gateway reports that it is ready.",
        )
    )
    assert {swappiness.result, firewall.result, gateway.result} == {"broken"}
    assert swappiness.detail == f"found {found}, expected 77"
    words = "grep: /etc/ufw/ufw.conf: No such file or directory"
    assert firewall.detail == f"{words} (asked by: grep -x 'ENABLED=yes' /etc/ufw/ufw.conf)"
