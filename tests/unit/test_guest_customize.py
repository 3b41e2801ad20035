"""Customizing as a table: given these settings, exactly these steps; given these facts, exactly this shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from swarm.errors import Refused
from swarm.guest.customize import steps
from swarm.guest.engine.graph import check_names
from swarm.guest.kinds.commands import command
from swarm.guest.kinds.files import guarded
from swarm.guest.kinds.mounts import mount
from swarm.guest.kinds.owned import owned_file
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.parts import sha256
from swarm.guest.kinds.settings import sysctl
from swarm.guest.kinds.units import linger
from swarm.inventory.inside import Customize, Share
from swarm.paths import ROOT
from tests.unit.steps import named, place, same

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.guest.engine.step import Step

SWAPPINESS = "sysctl vm.swappiness"


def settings(*items: dict[str, Any], **values: Any) -> Customize:
    """The settings of a host file with these items in its list."""
    return Customize.model_validate({**values, "customize": items})


def public(path: str, content: str) -> Step:
    """A file that is shown in a plan, unless the present one is private."""
    return guarded(owned_file(path, content), content, lambda present: bool(int(present, 8) & 0o004))


def own(*items: dict[str, Any]) -> list[Step]:
    """The steps of a list."""
    found = steps(settings(*items), None, "zed")
    return found[[step.subject for step in found].index("linger for zed") + 1 :]


def test_settings() -> None:
    """Every guest gets its swappiness, time zone and linger, and must have the account."""
    found = steps(settings(swappiness=7, timezone="Europe/Berlin"), None, "zed")
    assert [step.subject for step in found] == [SWAPPINESS, "time zone", "user zed", "linger for zed"]
    same([found[0], found[3]], [sysctl("vm.swappiness", "7"), linger("zed")])


def test_share() -> None:
    """A share is mounted at its target, and a boot goes on without it."""
    found = steps(settings(), Share(tag="swarm", target="/mnt/swarm"), "zed")
    same(found[4:], mount("swarm", "/mnt/swarm", "virtiofs", "defaults,nofail"))


def test_missing_account() -> None:
    """A guest without the account is refused, with the command that makes it."""
    step = named(steps(settings(), None, "zed"), "user zed")
    reason = "the guest has no user zed; run `inv install` first"
    assert [step.refuse(fact) for fact in ("there", "absent", "")] == [None, reason, reason]
    assert step.apply("absent") is None
    assert (step.known, step.wanted) == ({"users": ("zed",)}, "there")
    assert step.probe == 'if recall "$users_table" zed:; then echo there; else echo absent; fi'


@pytest.mark.parametrize(
    ("fact", "due", "refused", "shown"),
    [
        ("known\n/usr/share/zoneinfo/Europe/Berlin", False, False, "Europe/Berlin"),
        ("known\n/usr/share/zoneinfo/Etc/UTC", True, False, "Etc/UTC"),
        ("known\n/usr/share/zoneinfo/posix/Europe/Berlin", True, False, "posix/Europe/Berlin"),
        # Two names of one zone: both links lead to one file.
        ("known\n/usr/share/zoneinfo/Arctic/X\n/usr/share/zoneinfo/Arctic/X", False, False, "Arctic/X"),
        ("known\n/usr/share/zoneinfo/Arctic/X\n/usr/share/zoneinfo/Europe/Berlin", True, False, "Arctic/X"),
        ("known\n", True, False, None),
        ("unknown\n/usr/share/zoneinfo/Etc/UTC", True, True, "Etc/UTC"),
        ("", True, True, None),
    ],
)
def test_time_zone(*, fact: str, due: bool, refused: bool, shown: str | None) -> None:
    """A time zone is set if the guest has it and uses another one. One that the guest does not have is refused."""
    step = named(steps(settings(timezone="Europe/Berlin"), None, "zed"), "time zone")
    assert step.apply(fact) == ("timedatectl set-timezone Europe/Berlin" if due else None)
    assert step.refuse(fact) == ("the guest has no time zone Europe/Berlin" if refused else None)
    assert step.shown(fact) == shown
    assert step.wanted == "Europe/Berlin"
    zone = "/usr/share/zoneinfo/Europe/Berlin"
    same, followed = f"[ /etc/localtime -ef {zone} ]", f"readlink -f /etc/localtime {zone}"
    assert step.probe == (
        f"[ -e {zone} ] && echo known || echo unknown\nif {same}; then echo {zone}; else {followed}; fi"
    )


def test_own_list() -> None:
    """Packages come first, then files and sysctls, then the commands, one after the other."""
    found = own(
        {"command": "make it\nand more", "creates": "/it's"},
        {"file": "/etc/x", "content": "x\n", "mode": "0600", "owner": "zed", "group": "adm"},
        {"package": "tree"},
        {"command": "touch ~/mine", "unless": "test -e ~/mine", "user": "zed"},
        {"sysctl": "net.core.somaxconn", "value": 2048},
        {"package": "htop"},
        {"package": "tree"},
    )
    software = packages("of the host file", ("tree", "htop"))
    after = (software.subject,)
    private = owned_file("/etc/x", "x\n", mode="600", owner="zed", group="adm", after=after)
    content = guarded(private, "x\n", lambda _: False)
    setting = sysctl("net.core.somaxconn", "2048")
    before = (SWAPPINESS, software.subject, content.subject, setting.subject)
    unless = "test -e '/it'\"'\"'s'"
    first = command("make it …", "make it\nand more", unless=unless, after=before)
    mine = "touch ~/mine"
    second = command(mine, mine, unless="test -e ~/mine", after=(first.subject,), as_name="zed")
    same(found, [software, content, setting, first, second])


def test_list_without_packages() -> None:
    """Files need not wait for packages if there are none, and commands only for the swappiness."""
    found = own({"file": "/etc/x", "content": ""})
    same(found, [public("/etc/x", "")])
    assert place(own({"command": "true", "unless": ""})[0]) == ("command true", (SWAPPINESS,), ())
    assert own() == []


def test_empty_command() -> None:
    """A command of blanks is refused."""
    with pytest.raises(Refused, match="a command has no text"):
        own({"command": " \n", "unless": "true"})


def test_commands_with_the_same_first_line() -> None:
    """A command is known by its whole text: two with the same first line are two steps, in their order."""
    found = own(
        {"command": "cd /srv\nmake a", "creates": "/a"},
        {"command": "cd /srv\nmake b", "creates": "/b"},
        {"command": "cd /srv", "unless": "true"},
    )
    assert [step.subject for step in found] == [
        "command cd /srv …",
        "command cd /srv … (2)",
        "command cd /srv",
    ]
    assert [step.after for step in found[1:]] == [("command cd /srv …",), ("command cd /srv … (2)",)]
    assert "make b" in (found[1].apply("due") or "")


def test_same_file_twice() -> None:
    """A file that is stated twice is refused before any guest is asked."""
    found = own({"file": "/etc/x", "content": "1"}, {"file": "/etc/x", "content": "2"})
    with pytest.raises(Refused, match="file /etc/x is stated twice"):
        check_names(found)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "can't be read: No such file or directory"),
        (b"\xff\xfe", "can't be read: not UTF-8 text"),
        (b"a\0b", "is not a text file"),
    ],
)
def test_unreadable_source(content: bytes | None, reason: str, tmp_path: Path) -> None:
    """A source that is missing or is not text is refused, with its path."""
    path = tmp_path / "source"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refused, match=f"customize: /etc/x: its source {path} {reason}"):
        own({"file": "/etc/x", "source": str(path)})


def test_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source is read from the home folder, from an absolute path, or from the project's folder."""
    (tmp_path / "source").write_text("own\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    same(own({"file": "/etc/x", "source": "~/source"}), [public("/etc/x", "own\n")])
    same(own({"file": "/etc/x", "source": f"{tmp_path}/source"}), [public("/etc/x", "own\n")])
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    same(own({"file": "/etc/x", "source": "pyproject.toml"}), [public("/etc/x", text)])


@pytest.mark.parametrize(
    ("more", "fact", "shown"),
    [
        ({}, "file 644 root root 00\nold\n", True),
        ({}, "absent", True),
        ({"mode": "0600"}, "absent", False),
        ({"mode": "0640"}, "file 644 root root 00\nold\n", False),
        ({}, "file 600 root root 00\nold\n", False),
        ({"secret": True}, "file 644 root root 00\nold\n", False),
    ],
)
def test_a_private_file_is_not_shown(more: dict[str, Any], fact: str, *, shown: bool) -> None:
    """The plan shows the content of a file that everybody may read; of others it shows checksum and size."""
    content = "kestrel 4711\n"
    [step] = own({"file": "/etc/x", "content": content, **more})
    text = step.diff(fact) or ""
    assert ("kestrel" in text) is shown
    assert ("old" in text) is (shown and fact != "absent")
    assert (f"{sha256(content)[:12]}…, 13 bytes" in text) is not shown
