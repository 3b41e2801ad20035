"""Accounts, keys and an environment that others have made, or swarm for an earlier host file, on a real system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.errors import Refused
from swarm.guest.engine.converge import converge
from swarm.guest.install.former import former_accounts
from swarm.guest.install.hardening import sudoers
from swarm.guest.kinds.accounts import authorized_keys, seeded_keys, user
from swarm.guest.kinds.commands import command
from swarm.guest.kinds.files import directory
from swarm.guest.kinds.units import linger
from swarm.inventory.inside import InstallSettings

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.plan import Plan
    from swarm.ssh.guest import Guest
    from tools.lab import Machine

pytestmark = pytest.mark.slow

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJsgVAbu2GKBfVKE4fOWwTDfv4fWcBMVjb8d0p4u8CVx tests"


def subjects(plan: Plan) -> list[str]:
    """The subjects of a plan's changes."""
    return [change.subject for change in plan]


def test_accounts_of_others(machine: Machine, guest: Guest, talk: Talk) -> None:
    """A group and a home that are there already become the account's. Those of the system or of others are refused."""
    machine.ssh("groupadd yan; mkdir -p /home/yan /home/wim; chown daemon /home/wim; rm -rf /srv/homes")
    wanted = [
        user("yan", home="/home/yan"),
        user("xia", home="/srv/homes/xia"),
        directory("/home/yan/box", owner="yan", after=("user yan",)),
    ]
    assert len(converge(guest, wanted, talk).changes) == 3
    assert not converge(guest, wanted, talk)
    assert machine.ssh("stat -c '%U %G' /home/yan /srv/homes/xia; id -gn yan") == "yan yan\nxia xia\nyan\n"
    for name, reason in (
        ("sudo", "group sudo"),
        ("mail", "account mail"),
        ("wim", "/home/wim belongs to daemon"),
    ):
        with pytest.raises(Refused, match=reason):
            converge(guest, [user(name, home=f"/home/{name}")], talk)
    machine.ssh("groupdel yan 2>/dev/null; usermod -g users yan; groupdel yan")
    assert subjects(converge(guest, wanted, talk)) == ["user yan", "folder /home/yan/box"]
    machine.ssh("chown root /home/yan/box")
    with pytest.raises(Refused, match="/home/yan/box belongs to root, not to yan"):
        converge(guest, wanted, talk)


def test_former_keys_and_accounts(machine: Machine, guest: Guest, talk: Talk) -> None:
    """Keys of the first boot, and accounts of an earlier host file, lose their rights, and can get them back."""
    data, keys = "/var/lib/cloud/instance/user-data.txt", "/root/.ssh/authorized_keys"
    machine.ssh(f'mkdir -p {data.rpartition("/")[0]}; echo \'users: ["{KEY}", "ssh-rsa AAAAold"]\' >{data}')
    machine.ssh(f"cp {keys} /root/keys; echo 'ssh-rsa AAAAold\nssh-rsa AAAAmine' >>{keys}")
    root = authorized_keys("root", "/root", [KEY])
    wanted = [root, seeded_keys("root", "/root", [KEY], after=(root.subject,))]
    assert len(converge(guest, wanted, talk).changes) == 2
    guest.close()
    assert not converge(guest, wanted, talk)
    found = machine.ssh(f"cat {keys}; stat -c '%a %U' {keys}")
    assert "AAAAold" not in found
    assert "AAAAmine" in found
    assert KEY in found
    assert found.endswith("600 root\n")

    first, second = (InstallSettings.model_validate({"user": name}) for name in ("first", "second"))
    made = [user("first", home="/home/first"), sudoers(first, ()), linger("first", after=("user first",))]
    converge(guest, made, talk)
    moved = [user("second", home="/home/second"), sudoers(second, ()), former_accounts(second, ())]
    assert "former accounts" in subjects(converge(guest, moved, talk))
    assert not converge(guest, moved, talk)
    state = machine.ssh("getent passwd first; ls /etc/sudoers.d; loginctl show-user first 2>&1 || true")
    assert "/nologin" in state
    assert "\nfirst\n" not in state
    assert "\nsecond\n" in state
    assert "Linger=yes" not in state
    assert machine.ssh("getent shadow first").split(":")[7] == "1"  # the day of 1970 on which it has expired
    assert subjects(converge(guest, made, talk)) == [
        "user first",
        "file /etc/sudoers.d/first",
        "linger for first",
    ]
    assert machine.ssh("runuser -l first -c 'echo back'; getent shadow first | cut -d: -f8") == "back\n\n"
    machine.ssh(f"rm /etc/sudoers.d/first /etc/sudoers.d/second {data}; mv /root/keys {keys}")


def test_environment_of_the_system(machine: Machine, guest: Guest, talk: Talk) -> None:
    """A proxy of /etc/environment is in the environment of a user's steps, as in the user's logins."""
    machine.ssh(
        "cp /etc/environment /root/environment 2>/dev/null; "
        "echo 'https_proxy=\"http://10.0.0.1:3128\"' >>/etc/environment"
    )
    account = user("pia", home="/home/pia")
    seen = command(
        "of pia", 'echo "$https_proxy" >~/proxy', unless="test -e ~/proxy", after=("user pia",), as_name="pia"
    )
    converge(guest, [account, seen], talk)
    assert machine.ssh("cat /home/pia/proxy") == "http://10.0.0.1:3128\n"
    machine.ssh(
        "rm /home/pia/proxy /etc/environment; mv /root/environment /etc/environment 2>/dev/null || true"
    )
