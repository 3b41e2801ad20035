"""Guest against a real system: sudo, and a machine that reboots. Everything else is tested against a bare sshd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.ssh.guest import Guest
from swarm.ssh.reasons import LoginRefused

if TYPE_CHECKING:
    from tools.lab import Machine

pytestmark = pytest.mark.slow


def test_a_login_with_sudo_works_as_root(machine: Machine) -> None:
    """A login with passwordless sudo works like root, and as itself if root is not requested."""
    config = machine.login("helper", "helper ALL=(ALL) NOPASSWD: ALL")
    guest = Guest(config, machine.alias)
    assert guest.run("id -un").stdout == "root\n"
    guest.close()
    plain = Guest(config, machine.alias, root=False)
    assert plain.run("id -un").stdout == "helper\n"
    assert plain.sudo("id -un").stdout == "root\n"
    assert plain.sudo("id -un", user="nobody").stdout == "nobody\n"
    plain.close()


def test_a_login_without_sudo_is_refused(machine: Machine) -> None:
    """A login that may not become root is refused, with sudo's own message."""
    with pytest.raises(LoginRefused, match="may not become root: sudo: "):
        Guest(machine.login("plain"), machine.alias).run("true")


def test_a_reboot_costs_one_new_connection(machine: Machine) -> None:
    """A kept connection whose machine has rebooted is replaced, and the command runs."""
    guest = machine.guest()
    guest.run("true")
    machine.reboot()
    assert guest.run("echo back").stdout == "back\n"
    guest.close()
