"""`inv customize`: settings after the installation, and the user's own files, sysctls, packages and commands."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.converge import converge
from swarm.guest.engine.step import Step
from swarm.guest.kinds.commands import command
from swarm.guest.kinds.files import guarded
from swarm.guest.kinds.mounts import mount
from swarm.guest.kinds.owned import owned_file
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.settings import sysctl
from swarm.guest.kinds.units import linger
from swarm.inventory.inside import CommandItem, FileItem, PackageItem, SysctlItem
from swarm.paths import ROOT, expanded
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.guest.engine.talker import Reached
    from swarm.inventory.inside import Customize, Item, Share
    from swarm.plan import Plan

__all__ = ["customize", "steps"]

_ZONES = "/usr/share/zoneinfo/"


def customize(
    guest: Reached,
    settings: Customize,
    talk: Talk,
    *,
    share: Share | None = None,
    user: str = "openclaw",
    plan_only: bool = False,
    deadline: Deadline | None = None,
) -> Plan:
    """Set swappiness, time zone, the share's mount, linger and the `customize` list on the guest.

    `share` is the VM's virtiofs share, None if it has none. `user` is the account that OpenClaw runs as. Return the
    changes that were made, or would be. Raises as install() does.
    """
    with guest.connecting():
        wanted = steps(settings, share, user)
    return converge(guest, wanted, talk, plan_only=plan_only, deadline=deadline)


def steps(settings: Customize, share: Share | None, user: str) -> list[Step]:
    """Return every step. Raise Refused if a file that the list names can't be read."""
    swappiness = sysctl("vm.swappiness", str(settings.swappiness))
    return [
        swappiness,
        _timezone(settings.timezone),
        _account(user),
        linger(user),
        *(mount(share.tag, share.target, "virtiofs", "defaults,nofail") if share else ()),
        *_own(settings.customize, (swappiness.subject,)),
    ]


def _own(items: Sequence[Item], after: tuple[str, ...]) -> list[Step]:
    """Steps for the user's own list: packages first, then files and sysctls, then the commands in their order.

    Each of them may need the ones before it. The commands also come after the steps named by `after`.
    """
    names = tuple(dict.fromkeys(item.package for item in items if isinstance(item, PackageItem)))
    software = [packages("of the host file", names)] if names else []
    installed = tuple(step.subject for step in software)
    settings = []
    for item in items:
        if isinstance(item, FileItem):
            settings.append(_file(item, installed))
        elif isinstance(item, SysctlItem):
            settings.append(sysctl(item.sysctl, str(item.value)))
    before = (*after, *installed, *(step.subject for step in settings))
    commands: list[Step] = []
    for item in items:
        if isinstance(item, CommandItem):
            commands.append(_command(item, before, {step.subject for step in commands}))
            before = (commands[-1].subject,)
    return [*software, *settings, *commands]


_READ_BY_ALL = 0o004


def _file(item: FileItem, after: tuple[str, ...]) -> Step:
    def shows(present: str) -> bool:
        return not item.secret and all(int(mode, 8) & _READ_BY_ALL for mode in (item.mode, present))

    content = _content(item)
    step = owned_file(
        item.file, content, mode=item.mode, owner=item.owner, group=item.group or "", after=after
    )
    return guarded(step, content, shows)


def _command(item: CommandItem, after: tuple[str, ...], taken: Collection[str]) -> Step:
    """The step of a command, which is named by its first line; another one with that line gets a number."""
    guard = f"test -e {quote(item.creates or '')}" if item.unless is None else item.unless
    line = _first_line(item.command)
    for number in itertools.count(1):
        name = line if number == 1 else f"{line} ({number})"
        step = command(name, item.command, unless=guard, after=after, as_name=item.user)
        if step.subject not in taken:
            return step
    raise AssertionError  # the numbers do not end


def _account(user: str) -> Step:
    """A step that changes nothing, and refuses a guest on which OpenClaw is not installed yet."""
    return Step(
        subject=f"user {user}",
        probe=f'if recall "$users_table" {quote(f"{user}:")}; then echo there; else echo absent; fi',
        wanted="there",
        refuse=lambda fact: (
            None if fact == "there" else f"the guest has no user {user}; run `inv install` first"
        ),
        known={"users": (user,)},
    )


def _timezone(name: str) -> Step:
    zone = f"{_ZONES}{name}"
    return Step(
        subject="time zone",
        # Some names are links to others, as UTC is to Etc/UTC, so both are followed to the file.
        probe=f"[ -e {quote(zone)} ] && echo known || echo unknown\n"
        f"if [ /etc/localtime -ef {quote(zone)} ]; then echo {quote(zone)}; "
        f"else readlink -f /etc/localtime {quote(zone)}; fi",
        wanted=name,
        apply=lambda fact: None if _same_zone(fact, zone) else f"timedatectl set-timezone {quote(name)}",
        refuse=lambda fact: None if fact.startswith("known") else f"the guest has no time zone {name}",
        shown=lambda fact: "".join(fact.split("\n")[1:2]).removeprefix(_ZONES) or None,
    )


def _same_zone(fact: str, zone: str) -> bool:
    """Whether the present time zone is the wanted one, by that name or another."""
    known, *files = fact.split("\n")
    return known == "known" and (files[:1] == [zone] or (len(files) > 1 and files[0] == files[1]))


def _content(item: FileItem) -> str:
    """The wanted content of a file. Raise Refused if its source can't be read."""
    if item.source is None:
        return item.content or ""
    path = ROOT / expanded(item.source)  # an absolute path replaces ROOT
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not UTF-8 text")
        raise Refused(f"customize: {item.file}: its source {path} can't be read: {reason}") from None
    if "\0" in text:
        raise Refused(f"customize: {item.file}: its source {path} is not a text file")
    return text


def _first_line(text: str) -> str:
    """The name of a command: its first line. Raise Refused if there is none."""
    lines = text.strip().splitlines()
    if not lines:
        raise Refused("customize: a command has no text")
    return lines[0] if len(lines) == 1 else f"{lines[0]} …"
