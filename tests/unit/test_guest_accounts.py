"""Accounts and keys that swarm has made before, and those that it has not: what a real sh finds, and what is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from swarm.guest.engine.script import prelude
from swarm.guest.install.former import former_accounts
from swarm.templates import render
from swarm.text import quote
from tests.model_guest import shell
from tests.unit.steps import settings

if TYPE_CHECKING:
    from pathlib import Path

SEEDED = "openclaw:x:1000:1000:OpenClaw:/home/openclaw:/bin/bash"
USERS = "zed:x:1001:100::/home/zed:/bin/bash\nsys:x:8:8::/var/mail:/usr/sbin/nologin"
GROUPS = "zed:x:1001:\nleft:x:1004:\nsudo:x:27:"


def said(script: str, users: str = USERS) -> str:
    """What functions of the prelude print on a guest with these users and groups."""
    tables = f"users_table={quote(f'{chr(10)}{users}{chr(10)}')} groups_table={quote(f'{chr(10)}{GROUPS}{chr(10)}')}"
    return shell(f"{prelude()}\n{tables}\n{script}").decode()


@pytest.mark.parametrize(
    ("name", "home", "fact"),
    [
        ("zed", "/", "/home/zed:/bin/bash missing\nuid 1001\ngroup 1001\nhome root\n"),
        ("sys", "/missing", "/var/mail:/usr/sbin/nologin 2775\nuid 8\n"),
        ("left", "/missing", "absent\ngroup 1004\n"),
        ("sudo", "/", "absent\ngroup 27\nhome root\n"),
        ("new", "/missing", "absent\n"),
    ],
)
def test_account_and_what_is_there_of_it(name: str, home: str, fact: str) -> None:
    """An account's fact tells its number, a group of its name, and whose its home is, even if there is no account."""
    table = "states_table='\n/\t755 root root directory 4096\n/var/mail\t2775 root mail directory 4096\n'"
    assert said(f"{table}\nuser_fact {name} {home}") == fact


@pytest.mark.parametrize(
    ("seeded", "wanted", "rules", "found"),
    [
        (SEEDED, "openclaw", ["openclaw"], []),
        (SEEDED, "zed", ["zed"], ["openclaw"]),
        (SEEDED, "zed", ["zed", "openclaw", "old"], ["openclaw", "old"]),
        (SEEDED.replace("/bin/bash", "/usr/sbin/nologin"), "zed", ["zed"], []),
        (SEEDED.replace("OpenClaw", ""), "zed", ["zed"], []),
        (SEEDED.replace("OpenClaw", ""), "zed", ["zed", "openclaw"], ["openclaw"]),
        ("", "zed", ["old"], ["old"]),
    ],
)
def test_former_accounts(
    tmp_path: Path, seeded: str, wanted: str, rules: list[str], found: list[str]
) -> None:
    """An account of an earlier host file, or of the first boot, is found and ended. Others are none of swarm's."""
    for name in rules:
        (tmp_path / name).write_text(render("guest/sudoers.j2", user=name, tailscale=False))
    (tmp_path / "README").write_text("# Not written by swarm.\n")
    (tmp_path / "admin").write_text("admin ALL=(ALL) ALL\n")
    step = former_accounts(settings(user=wanted), ())
    fact = said(step.probe.replace("/etc/sudoers.d", str(tmp_path)), f"{USERS}\n{seeded}")
    scripts = [render("guest/former-account.sh.j2", name=name, folder="/etc/sudoers.d") for name in found]
    assert (step.apply(fact) or "") == "\n".join(scripts)
    assert step.shown(fact) == (", ".join(found) or None)


def test_former_account_with_an_odd_name() -> None:
    """A name that no account has ends the run: it would become a part of root's commands."""
    with pytest.raises(ValueError, match=r"\.\./x"):
        former_accounts(settings(), ()).apply("old\n../x")


def test_keys_of_the_first_boot(tmp_path: Path) -> None:
    """Only keys that a login file has are found in the user data, and never a part of a private key there."""
    data = tmp_path / "user-data.txt"
    data.write_text(
        'ed25519_private: "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU="\n'
        'ssh_authorized_keys: ["ssh-ed25519 AAAAone me", "ecdsa-sha2-nistp256 AAAAtwo", "ssh-rsa AAAAthree"]\n'
    )
    keys = tmp_path / "authorized_keys"
    keys.write_text(
        "ssh-rsa AAAAmine\nssh-ed25519 AAAAone me\nno-pty ecdsa-sha2-nistp256 AAAAtwo x\nAAAAABG5vbmU=\n"
    )
    functions = prelude().replace("/var/lib/cloud/instance/user-data.txt", str(data))
    ask = f"{functions}\nseeded_keys_fact {quote(str(keys))}\nseeded_keys_fact {quote(str(tmp_path))}"
    assert shell(ask).decode().split() == ["AAAAone", "AAAAtwo"]
    data.unlink()
    assert shell(f"{ask}; :") == b""
