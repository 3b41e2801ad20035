"""The commands that work in a guest over SSH: install, customize, verify, ssh. And `up`, which does everything."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm import history
from swarm.commands.render import render
from swarm.commands.run import SIDE_BY_SIDE, Outcome, Selection, chosen, in_turn, run
from swarm.commands.vm import positive, provisioned
from swarm.deadline import Deadline
from swarm.errors import Unfit, UsageError
from swarm.fleet.parts import connect, expected, installing_all, link
from swarm.inventory import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.commands.run import Step
    from swarm.console import Talk
    from swarm.guest.verify import Verification
    from swarm.inventory import Host
    from swarm.plan import Plan
    from swarm.ssh.link import Link

__all__ = [
    "customize",
    "customizing",
    "install",
    "making",
    "ssh",
    "up",
    "verify",
    "verifying",
]

_WORK = 7200.0  # seconds for one host; an installation under emulation takes about half of that


def install(words: str, *, plan_only: bool, as_json: bool, upgrade: bool, limit: float) -> int:
    """Install OpenClaw in guests."""
    positive("--timeout", limit)
    outcomes = _installed(chosen(words), plan_only=plan_only, upgrade=upgrade, quiet=as_json, limit=limit)
    return render(outcomes, as_json=as_json)


def customize(words: str, *, plan_only: bool, as_json: bool, limit: float) -> int:
    """Apply settings and the user's own list in guests."""
    positive("--timeout", limit)
    outcomes = _customized(chosen(words), plan_only=plan_only, quiet=as_json, limit=limit)
    return render(outcomes, as_json=as_json)


def verify(words: str, *, junit: str, as_json: bool, limit: float) -> int:
    """Test every promise on guests."""
    positive("--timeout", limit)
    selection = chosen(words)
    if junit and selection.several:
        raise UsageError("--junit writes the report of one host", "give one name to --host")
    report = Path(junit) if junit else None
    if report and not _writable(report):
        raise UsageError(f"--junit: {report} can't be written", "name a file in an existing folder")
    outcomes = _verified(selection, junit=report, quiet=as_json, limit=limit)
    return _show_verified(outcomes, as_json=as_json)


def _writable(path: Path) -> bool:
    if path.exists():
        return not path.is_dir() and os.access(path, os.W_OK)
    return path.parent.is_dir() and os.access(path.parent, os.W_OK)


def up(words: str, limit: float) -> int:
    """Provision, install, customize and verify. A host that fails in one step is left out of the later ones."""
    positive("--timeout", limit)
    start = time.monotonic()

    def remember(selection: Selection) -> list[Outcome[Any]]:
        for host in selection.hosts:
            history.append(host.name, "up", seconds=round(time.monotonic() - start, 3))
        return []

    return in_turn(chosen(words), (*making(limit), verifying(), (remember, lambda _: 0)))


def making(limit: float) -> tuple[Step, ...]:
    """Return the steps that make a host: provision, install, customize."""
    return (
        (lambda hosts: provisioned(hosts, limit=limit), _show),
        (_installed, _show),
        (_customized, _show),
    )


def verifying() -> Step:
    """Return the step that verifies a host."""
    return _verified, _show_verified


def ssh(name: str, user: str, words: Sequence[str]) -> int:
    """Become ssh."""
    from swarm import access
    from swarm import ssh as port

    host = load(name)
    access.reach(host)
    argv = port.argv(access.target(host), words, user=user)
    sys.stdout.flush()
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is involved, and ssh gets the terminal itself
    except FileNotFoundError:
        raise Unfit("the program ssh is missing", "apt-get install openssh-client") from None


def _show(outcomes: list[Outcome[Any]]) -> int:
    return render(outcomes, as_json=False)


def customizing(host: Host, way: Link, talk: Talk, **options: Any) -> Plan:
    """Apply settings and the user's own list in one guest. Return the changes."""
    from swarm.guest.customize import customize as verb
    from swarm.inventory.inside import Share

    own = host.share
    share = Share(tag=own.tag, target=str(own.target)) if own else None
    return verb(way, host.guest, talk, share=share, user=host.openclaw.user, **options)


def _installed(
    selection: Selection, *, quiet: bool = False, limit: float = _WORK, **options: Any
) -> list[Outcome[Plan]]:
    return _over_ssh(selection, installing_all, quiet=quiet, limit=limit, **options)


def _customized(
    selection: Selection, *, quiet: bool = False, limit: float = _WORK, **options: Any
) -> list[Outcome[Plan]]:
    return _over_ssh(selection, customizing, quiet=quiet, limit=limit, **options)


def _over_ssh(
    selection: Selection, verb: Callable[..., Plan], *, quiet: bool, limit: float, **options: Any
) -> list[Outcome[Plan]]:
    """Run a verb that works over SSH, for at most `limit` seconds on each host.

    Connections begin first, so that the verb's modules load while they are made.
    """
    ways: dict[str, Link] = {}

    def reach(host: Host) -> None:
        way = ways[host.name] = link(host)
        way.direct = len(selection.hosts) > SIDE_BY_SIDE
        way.connect()

    def one(host: Host, talk: Talk) -> Plan:
        return verb(host, ways[host.name], talk, deadline=Deadline(limit), **options)

    return run(selection, one, first=reach, quiet=quiet)


def _verified(
    selection: Selection, *, junit: Path | None = None, quiet: bool = False, limit: float | None = None
) -> list[Outcome[Verification]]:
    def one(host: Host, talk: Talk) -> Verification:
        from swarm.guest.verify import verify as verb

        return verb(connect(host), expected(host), talk, junit=junit, limit=limit)

    return run(selection, one, quiet=quiet)


def _show_verified(outcomes: Sequence[Outcome[Verification]], *, as_json: bool = False) -> int:
    """Show the checks of each host and return the exit code.

    JSON is one list of the checks of all hosts. A host that failed has one object there, with its error.
    """

    def data(_: object) -> list[dict[str, Any]]:
        checks = ([each.to_json()] if each.error else each.to_json()["checks"] for each in outcomes)
        return [check for of_host in checks for check in of_host]

    return render(outcomes, as_json=as_json, data=data)
