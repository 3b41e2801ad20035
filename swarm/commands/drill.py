"""The command that rehearses a restore in a throwaway VM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from swarm.commands.backup import catalog
from swarm.commands.render import Done, render
from swarm.commands.run import Outcome, Selection, chosen, run
from swarm.commands.vm import positive
from swarm.errors import UsageError

if TYPE_CHECKING:
    from swarm.backup.drill import Report
    from swarm.console import Talk
    from swarm.inventory import Host

__all__ = ["discard", "drill"]


def discard(words: str, *, as_json: bool) -> int:
    """Remove the VMs that drills have kept."""

    def one(host: Host, talk: Talk) -> Done:
        from swarm.backup.drill import discard as verb

        done = Done(changed=verb(host, talk), verb="removed the drill's VM")
        talk.say(done.summary)
        return done

    return render(run(chosen(words), one, quiet=as_json), as_json=as_json)


def drill(
    words: str, *, archive: str, identity: str, files_only: bool, keep: bool, limit: float, as_json: bool
) -> int:
    """Restore archives into throwaway VMs, one after another: each needs a whole VM's memory."""
    positive("--timeout", limit)
    selection = chosen(words)
    if selection.several and archive != "latest":
        raise UsageError("--archive NAME is for one host", "give one name to --host")

    def one(host: Host, talk: Talk) -> Report:
        from swarm.backup.drill import Options
        from swarm.backup.drill import drill as verb

        options = Options(archive, files_only, keep, limit)
        return verb(host, partial(catalog, host, identity), talk, options)

    outcomes: list[Outcome[Report]] = run(Selection([], selection.broken), one, quiet=as_json)
    for host in selection.hosts:
        outcomes += run(Selection([host], of_several=selection.several), one, quiet=as_json)
    return render(outcomes, as_json=as_json)
