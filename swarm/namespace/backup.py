"""The commands about backups, and `restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.collection import Collection

from swarm.front.task import task
from swarm.namespace.words import ARCHIVE, HOST, IDENTITY, JSON, PLAN, TIMEOUT, YES

if TYPE_CHECKING:
    from invoke.context import Context

__all__ = ["collection", "drill", "restore"]


@task(
    name="now",
    default=True,
    help={
        **HOST,
        "plan": "only show what the mirror would gain and lose",
        **JSON,
        "force": "accept that files vanish from the mirror",
        "bwlimit": "the most KiB per second that transfers may use",
    },
)
def now(
    _: Context, host: str, plan: bool = False, json: bool = False, force: bool = False, bwlimit: int = 0
) -> int:
    """Mirror a guest's OpenClaw state, archive it, verify the archive, and remove old ones."""
    from swarm.commands import backup as commands

    return commands.now(host, plan_only=plan, force=force, bwlimit=bwlimit, as_json=json)


@task(name="list", help={**HOST, **JSON})
def list_(_: Context, host: str = "all", json: bool = False) -> int:
    """List the archives of hosts, with age, size and how far they are verified."""
    from swarm.commands import archives as commands

    return commands.listing(host, as_json=json)


@task(name="show", help={**ARCHIVE, **JSON})
def show(_: Context, host: str, archive: str = "latest", identity: str = "", json: bool = False) -> int:
    """Show what an archive contains."""
    from swarm.commands import archives as commands

    return commands.show(host, archive, identity, as_json=json)


@task(
    name="diff",
    help={
        **IDENTITY,
        **JSON,
        "older": "the archive to compare with",
        "newer": "the archive that is compared; default: latest",
    },
)
def diff(
    _: Context, host: str, older: str, newer: str = "latest", identity: str = "", json: bool = False
) -> int:
    """Show how one archive differs from an older one."""
    from swarm.commands import archives as commands

    return commands.diff(host, older, newer, identity, as_json=json)


@task(name="find", help={**IDENTITY, **JSON, "path": "a part of a path, or a shell pattern"})
def find(_: Context, host: str, path: str, identity: str = "", json: bool = False) -> int:
    """Show in which archives a file is."""
    from swarm.commands import archives as commands

    return commands.find(host, path, identity, as_json=json)


@task(
    name="verify",
    help={
        **ARCHIVE,
        **JSON,
        "host": HOST["host"],
        "all": "verify every archive",
        "sample": "verify so many archives, chosen at random",
    },
)
def verify(
    _: Context,
    host: str,
    archive: str = "",
    all: bool = False,
    sample: int = 0,
    identity: str = "",
    json: bool = False,
) -> int:
    """Read each copy of an archive from end to end and compare it with its manifest."""
    from swarm.commands import archives as commands

    return commands.verify(host, archive, identity, everything=all, sample=sample, as_json=json)


@task(name="prune", help={**HOST, **PLAN, **YES})
def prune(_: Context, host: str, plan: bool = False, yes: bool = False, json: bool = False) -> int:
    """Remove the archives that the host file's retention lets go."""
    from swarm.commands import backup as commands

    return commands.prune(host, plan_only=plan, yes=yes, as_json=json)


@task(name="key", help={"file": "where to write the secret key; default: swarm-backup.key"})
def key(_: Context, file: str = "") -> int:
    """Make a pair of keys for encrypted archives."""
    from swarm.commands import backup as commands

    return commands.key(file)


@task(
    help={
        **HOST,
        **PLAN,
        **YES,
        **TIMEOUT,
        "archive": "restore this archive, or 'latest'; default: the mirror",
        "path": "only these files or directories, separated by commas, absolute or relative to the state directory",
        "ip": "create the VM at this address first",
        "rebuild": "create the VM first, at the host file's address and on its hypervisor",
        "identity": "a file with the age secret key",
        "emergency": "print the commands that restore this archive without swarm",
    }
)
def restore(
    _: Context,
    host: str = "",
    archive: str = "",
    path: str = "",
    ip: str = "",
    rebuild: bool = False,
    identity: str = "",
    emergency: str = "",
    plan: bool = False,
    yes: bool = False,
    json: bool = False,
    timeout: float = 900,
) -> int:
    """Put a mirror or an archive back on a guest. If the gateway does not come up, everything is rolled back."""
    from swarm.commands import restore as commands

    if emergency:
        return commands.emergency(emergency)
    if ip or rebuild:
        return commands.redeploy(
            host, ip, archive=archive, path=path, identity=identity, plan_only=plan, limit=timeout
        )
    return commands.restore(
        host, archive=archive, path=path, identity=identity, plan_only=plan, yes=yes, as_json=json
    )


@task(
    help={
        **ARCHIVE,
        **JSON,
        **TIMEOUT,
        **HOST,
        "files": "compare files and databases only, without installing OpenClaw",
        "keep": "keep the VM until the next drill",
        "discard": "only remove a VM that was kept",
    }
)
def drill(
    _: Context,
    host: str,
    archive: str = "latest",
    identity: str = "",
    files: bool = False,
    keep: bool = False,
    discard: bool = False,
    timeout: float = 900,
    json: bool = False,
) -> int:
    """Restore an archive into a throwaway VM that is cut off from every network, and compare everything."""
    from swarm.commands import drill as commands

    if discard:
        return commands.discard(host, as_json=json)
    return commands.drill(
        host,
        archive=archive,
        identity=identity,
        files_only=files,
        keep=keep,
        limit=timeout,
        as_json=json,
    )


# `./inv backup` is `./inv backup.now`.
collection = Collection(now, list_, show, diff, find, verify, prune, key)
