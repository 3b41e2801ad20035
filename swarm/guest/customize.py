"""`inv customize`: settings after the installation, and the user's own files, sysctls, packages and commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.converge import converge
from swarm.guest.engine.probe import Step
from swarm.guest.kinds.basic import command, file, sysctl
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.services import linger, mount
from swarm.inventory.inside import CommandItem, FileItem, PackageItem, SysctlItem
from swarm.paths import ROOT
from swarm.ssh.remote import Remote
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.inventory.inside import Customize, Share
    from swarm.plan import Plan

__all__ = ["customize", "steps"]


def customize(
    remote: Remote,
    settings: Customize,
    talk: Talk,
    *,
    share: Share | None = None,
    user: str = "openclaw",
    plan_only: bool = False,
    deadline: Deadline | None = None,
) -> Plan:
    """Set swappiness, time zone, the share's mount, linger and the `customize` list on the host; return what was, or would be, done.

    `share` is the VM's virtiofs share, None if it has none; `user` is the account that OpenClaw runs as. Raises as install() does.
    """
    with remote.connecting():
        wanted = steps(settings, share, user)
    return converge(remote, wanted, talk, plan_only=plan_only, deadline=deadline)


def steps(settings: Customize, share: Share | None, user: str) -> list[Step]:
    """Return every step. Raise Refused if a file that the list names can't be read, or a thing is stated twice."""
    account = Step(
        f"user {user}",
        f'if recall "$users_table" {quote(f"{user}:")}; then echo there; else echo absent; fi',
        "there",
        refuse=lambda fact: (
            f"the guest has no user {user} yet; run `inv install` first" if fact == "absent" else None
        ),
        known={"users": (user,)},
    )
    found = [
        sysctl("vm.swappiness", str(settings.swappiness)),
        _timezone(settings.timezone),
        account,
        linger(user),
        *(mount(share.tag, share.target, "virtiofs", "defaults,nofail") if share else ()),
    ]
    # Packages go first, then files and sysctls, then the commands in the order of the list: each kind may need the one before it.
    names = [item.package for item in settings.customize if isinstance(item, PackageItem)]
    if names:
        found.append(packages("of the host file", tuple(dict.fromkeys(names))))
    before = (found[-1].subject,) if names else ()
    for item in settings.customize:
        if isinstance(item, FileItem):
            found.append(
                file(
                    item.file,
                    _content(item),
                    mode=item.mode,
                    owner=item.owner,
                    group=item.group,
                    after=before,
                )
            )
        elif isinstance(item, SysctlItem):
            found.append(sysctl(item.sysctl, str(item.value)))
    before = tuple(
        step.subject for step in found if step.subject.startswith(("packages", "file ", "sysctl "))
    )
    for item in settings.customize:
        if isinstance(item, CommandItem):
            guard = item.unless if item.unless is not None else f"test -e {quote(item.creates or '')}"
            found.append(
                command(
                    _first_line(item.command), item.command, unless=guard, after=before, as_name=item.user
                )
            )
            before = (found[-1].subject,)
    return found


def _timezone(name: str) -> Step:
    zone = f"/usr/share/zoneinfo/{name}"
    return Step(
        "time zone",
        f"[ -e {quote(zone)} ] && echo known || echo unknown\nreadlink -f /etc/localtime",
        name,
        lambda fact: None if fact.endswith(f"\n{zone}") else f"timedatectl set-timezone {quote(name)}",
        refuse=lambda fact: f"the guest knows no time zone {name}" if fact.startswith("unknown") else None,
        shown=lambda fact: fact.partition("\n")[2].removeprefix("/usr/share/zoneinfo/"),
    )


def _content(item: FileItem) -> str:
    if item.content is not None:
        return item.content
    assert item.source is not None  # noqa: S101 - one of the two is there, as FileItem checks
    path = item.source.expanduser()
    path = path if path.is_absolute() else ROOT / path
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"customize: {item.file}: its source {path} can't be read: {getattr(error, 'strerror', 'not UTF-8 text')}"
        ) from None
    if "\0" in text:
        raise Refused(f"customize: {item.file}: its source {path} is not a text file")
    return text


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} …"
