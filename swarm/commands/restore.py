"""The command that restores: a mirror or an archive, whole or in part, on the same guest or a new one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.commands.backup import catalog
from swarm.commands.render import render
from swarm.commands.run import Selection, chosen, run
from swarm.commands.vm import positive
from swarm.console import Talk, screen
from swarm.errors import Refused, SwarmError, Unreachable, UsageError
from swarm.fleet import parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from swarm.backup.recover import Origin
    from swarm.backup.restore import Restored, Target
    from swarm.inventory import Host
    from swarm.locks import Lock

__all__ = ["emergency", "redeploy", "restore"]


def emergency(path: str) -> int:
    """Print the commands that restore an archive without swarm."""
    from swarm.backup.emergency import emergency as script
    from swarm.inventory import InstallSettings

    settings = InstallSettings()
    screen().text(script(Path(path), user=settings.user, state_dir=settings.config_dir).splitlines())
    return 0


def restore(
    words: str,
    *,
    archive: str = "",
    path: str = "",
    identity: str = "",
    plan_only: bool = False,
    yes: bool = False,
    as_json: bool = False,
) -> int:
    """Restore hosts from their mirrors or from an archive."""
    selection = chosen(words)
    if selection.several and archive not in {"", "latest"}:
        raise UsageError("--archive NAME is for one host", "give one name to --host, or use --archive latest")
    if not yes and not plan_only and selection.several:
        raise UsageError("restoring several hosts needs --yes", "--plan shows what would change")
    outcomes = restored(
        selection, archive=archive, path=path, identity=identity, plan_only=plan_only, yes=yes, quiet=as_json
    )
    return render(outcomes, as_json=as_json)


def restored(selection: Selection, *, quiet: bool = False, **options: Any) -> list[Any]:
    """Run the verb on each host and return the outcomes."""
    return run(selection, lambda host, talk: _one(host, talk, **options), quiet=quiet)


def _one(host: Host, talk: Talk, **options: Any) -> Restored:
    if not host.known_hosts.exists():
        raise Unreachable(
            f"{host.name} has no pinned host key, so there is no guest to restore to",
            _rebuild(host),
        )
    try:
        return _put_back(host, talk, **options)
    except Unreachable:
        if _has_no_vm(host):
            raise Unreachable(
                f"{host.name} has no VM at {host.hypervisor.uri}, so there is no guest to restore to",
                _rebuild(host),
            ) from None
        raise


def _rebuild(host: Host) -> str:
    return f"./inv restore --host {host.name} --rebuild creates the VM and installs everything first"


def _has_no_vm(host: Host) -> bool:
    """Whether the host's hypervisor answers, and has no VM of the host. Nothing is started."""
    from swarm.hypervisor.connection import ANSWER, Libvirt
    from swarm.hypervisor.domain import Domain
    from swarm.vm.desired import domain_uuid
    from swarm.vm.verbs import asleep

    if host.foreign or asleep(host):
        return False
    with contextlib.suppress(SwarmError), Libvirt(host.hypervisor.uri, limit=ANSWER) as connection:
        return Domain.find_by_uuid(connection, domain_uuid(host)) is None
    return False


def _put_back(
    host: Host, talk: Talk, *, archive: str, path: str, identity: str, plan_only: bool, yes: bool
) -> Restored:
    from swarm.backup.busy import hold_host
    from swarm.backup.pick import named
    from swarm.backup.restore import restore as whole
    from swarm.backup.restore import restore_paths

    with (
        hold_host(host.name, "restore") as lock,
        _origin(host, archive, identity, talk) as origin,
        _target(host, lock) as target,
    ):
        talk.say(f"restore {origin.what}")
        confirm = None if yes or plan_only else _confirmation(host, talk)
        if path:
            paths = named(path, target.state_dir, origin.manifest.files)
            done = restore_paths(
                target, origin.tree, origin.manifest, paths, talk, plan_only=plan_only, confirm=confirm
            )
        else:
            done = whole(
                target, origin.tree, origin.manifest, host.backup, talk, plan_only=plan_only, confirm=confirm
            )
        if done.changed and not plan_only:
            talk.say(done.summary)
        return done


def _confirmation(host: Host, talk: Talk) -> Callable[[object], None]:
    def confirm(_: object) -> None:
        if not talk.ask(f"Replace the state of {host.name}? What is replaced is kept aside in the guest."):
            raise Refused(f"{host.name}: nothing was restored", "--yes restores without a question")

    return confirm


def _origin(host: Host, archive: str, identity: str, talk: Talk) -> AbstractContextManager[Origin]:
    from swarm.backup.recover import from_archive, from_mirror

    if archive:
        return from_archive(catalog(host, identity), archive, talk)
    return contextlib.nullcontext(from_mirror(host, talk))


@contextlib.contextmanager
def _target(host: Host, lock: Lock) -> Iterator[Target]:
    with parts.connect(host) as guest:
        yield parts.target(host, guest, lock)


def redeploy(
    name: str, ip: str, *, archive: str, path: str, identity: str, plan_only: bool, limit: float
) -> int:
    """Create the VM of a host, restore its state there, and verify everything.

    An `ip` is written to the host file first. Without one, the VM gets the file's address, perhaps on the hypervisor
    that the file names now. An unfinished upgrade is forgotten, as going back would replace the restored state.
    """
    from swarm.commands.guest import making, verifying
    from swarm.commands.run import in_turn
    from swarm.fleet import unfinished
    from swarm.inventory.edit import set_ip

    option = "--ip" if ip else "--rebuild"
    selection = chosen(name)
    if selection.several:
        raise UsageError(f"{option} is for one host", "give one name to --host")
    if plan_only or path:
        raise UsageError(
            f"{option} restores a whole host, so it can't be used with {'--plan' if plan_only else '--path'}",
            f"./inv plan shows what would be provisioned, and --plan without {option} what would be restored",
        )
    positive("--timeout", limit)
    for error in selection.broken.values():  # a pattern that means one host, whose file can't be used
        raise error
    host = selection.hosts[0]
    if archive:  # fail before anything is created: reading the manifest takes the right identity
        from swarm.backup.recover import first_good

        found = catalog(host, identity)
        first_good(found.copies(archive), Talk(screen()), found.manifest)
    else:
        from swarm.backup.recover import require_mirror

        require_mirror(host)
    if ip:
        set_ip(host.name, ip)

    def put_back(hosts: Selection) -> list[Any]:
        outcomes = restored(hosts, archive=archive, path="", identity=identity, plan_only=False, yes=True)
        for each in outcomes:
            if not each.error:
                unfinished.forget(each.name, Talk(screen()))
        return outcomes

    back = (put_back, lambda outcomes: render(outcomes, as_json=False))
    return in_turn(chosen(name), (*making(limit), back, verifying()))
