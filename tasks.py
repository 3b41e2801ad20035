"""Define every command of swarm. The work is done in swarm/; only modules that load fast are imported here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm.front import handover

handover.to_inv(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib costs 10 ms

from invoke.collection import Collection  # noqa: E402 - another Invoke's Python has to leave before this

from swarm.front.task import remainder, task  # noqa: E402 - as above

if TYPE_CHECKING:
    from invoke.context import Context

HOST = {"host": "a host's name, several separated by commas, or all"}
JSON = {"json": "write data for scripts to stdout"}
PLAN = {"plan": "only show what would change", **JSON}
TIMEOUT = {"timeout": "seconds that all waiting together may take"}
YES = {"yes": "do not ask for confirmation"}
IDENTITY = {
    "host": "a host's name",
    "identity": "a file with the age secret key; default: that in SWARM_AGE_IDENTITY",
}
ARCHIVE = {"archive": "the name of an archive; default: latest", **IDENTITY}


@task(help=JSON)
def hosts(_: Context, json: bool = False) -> int:
    """List the host files."""
    from swarm.commands import hosts as commands

    return commands.hosts(as_json=json)


@task(help={**HOST, **JSON})
def plan(_: Context, host: str, json: bool = False) -> int:
    """Show what would change. Exit code 0: nothing, 2: something."""
    from swarm.commands import vm as commands

    return commands.plan(host, as_json=json)


@task(help={**HOST, **PLAN, **TIMEOUT, "restart": "restart a running VM if changes are waiting for it"})
def provision(
    _: Context,
    host: str,
    plan: bool = False,
    json: bool = False,
    restart: bool = False,
    timeout: float = 900,
) -> int:
    """Create the VM of a host file, or bring it to the state that the file describes."""
    from swarm.commands import vm as commands

    return commands.provision(host, plan_only=plan, as_json=json, restart=restart, limit=timeout)


@task(help={**HOST, **PLAN, "upgrade": "upgrade packages, and look up the channel's newest version"})
def install(_: Context, host: str, plan: bool = False, json: bool = False, upgrade: bool = False) -> int:
    """Install OpenClaw in a guest: tools, firewall, Docker, Node, the gateway."""
    from swarm.commands import guest as commands

    return commands.install(host, plan_only=plan, as_json=json, upgrade=upgrade)


@task(help={**HOST, **PLAN})
def customize(_: Context, host: str, plan: bool = False, json: bool = False) -> int:
    """Apply swappiness, time zone, share and the host file's own list in a guest."""
    from swarm.commands import guest as commands

    return commands.customize(host, plan_only=plan, as_json=json)


@task(help={**HOST, **JSON, "junit": "also write the report to this file, as JUnit XML"})
def verify(_: Context, host: str, junit: str = "", json: bool = False) -> int:
    """Test every promise on a guest, and show a table of the results."""
    from swarm.commands import guest as commands

    return commands.verify(host, junit=junit, as_json=json)


@task(help={**HOST, **TIMEOUT})
def up(_: Context, host: str, timeout: float = 900) -> int:
    """Run provision, install, customize and verify, in this order."""
    from swarm.commands import guest as commands

    return commands.up(host, timeout)


@task(help={"host": HOST["host"] + "; default: all", **JSON})
def status(_: Context, host: str = "all", json: bool = False) -> int:
    """Show the state of each host: VM, SSH, drift."""
    from swarm.commands import vm as commands

    return commands.status(host, as_json=json)


@task(help={"host": "a host's name", "user": "log in as this user (root or openclaw)"})
def ssh(_: Context, host: str, user: str = "root") -> int:
    """Log into a guest, or run the command after -- there."""
    from swarm.commands import guest as commands

    return commands.ssh(host, user, remainder())


@task(
    help={
        "host": "a host's name",
        "follow": "keep showing new output",
        "screenshot": "write the screen to this PNG file instead",
    }
)
def console(_: Context, host: str, follow: bool = False, screenshot: str = "") -> None:
    """Show the VM's serial console since its start, or its screen."""
    from swarm.commands import vm as commands

    commands.console(host, follow=follow, picture=screenshot)


@task(help={**HOST, **TIMEOUT, **JSON})
def start(_: Context, host: str, timeout: float = 900, json: bool = False) -> int:
    """Start a VM and wait until its guest is ready."""
    from swarm.commands import vm as commands

    return commands.start(host, timeout, as_json=json)


@task(
    help={
        **HOST,
        **JSON,
        "timeout": "seconds that the guest has to power off",
        "force": "cut the power; unwritten data is lost",
    }
)
def stop(_: Context, host: str, timeout: float = 90, force: bool = False, json: bool = False) -> int:
    """Power a guest off and wait until it is off."""
    from swarm.commands import vm as commands

    return commands.stop(host, timeout, force=force, as_json=json)


@task(help={**HOST, **PLAN, **YES})
def destroy(_: Context, host: str, plan: bool = False, json: bool = False, yes: bool = False) -> int:
    """Remove a VM with its disk and everything else that was made for it."""
    from swarm.commands import vm as commands

    return commands.destroy(host, plan_only=plan, as_json=json, yes=yes)


@task(help={"host": "a host's name", **YES})
def pin(_: Context, host: str, yes: bool = False) -> None:
    """Pin a guest's new host key after you changed it. The guest's agent reports the key."""
    from swarm.commands import vm as commands

    commands.pin(host, yes=yes)


@task(name="list", default=True, help={"prune": "the same as images.prune", **YES, **JSON})
def images_list(_: Context, prune: bool = False, yes: bool = False, json: bool = False) -> int:
    """List the image catalog, the cache and the base images of each hypervisor."""
    from swarm.commands import images as commands

    return commands.prune(yes=yes, as_json=json) if prune else commands.show(as_json=json)


@task(name="prune", help={**YES, **JSON})
def images_prune(_: Context, yes: bool = False, json: bool = False) -> int:
    """Remove the images that no VM and no host file uses."""
    from swarm.commands import images as commands

    return commands.prune(yes=yes, as_json=json)


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
def backup_now(
    _: Context, host: str, plan: bool = False, json: bool = False, force: bool = False, bwlimit: int = 0
) -> int:
    """Mirror a guest's OpenClaw state, archive it, verify the archive, and remove old ones."""
    from swarm.commands import backup as commands

    return commands.now(host, plan_only=plan, force=force, bwlimit=bwlimit, as_json=json)


@task(name="list", help={**HOST, **JSON})
def backup_list(_: Context, host: str = "all", json: bool = False) -> int:
    """List the archives of hosts, with age, size and how far they are verified."""
    from swarm.commands import archives as commands

    return commands.listing(host, as_json=json)


@task(name="show", help={**ARCHIVE, **JSON})
def backup_show(
    _: Context, host: str, archive: str = "latest", identity: str = "", json: bool = False
) -> int:
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
def backup_diff(
    _: Context, host: str, older: str, newer: str = "latest", identity: str = "", json: bool = False
) -> int:
    """Show how one archive differs from an older one."""
    from swarm.commands import archives as commands

    return commands.diff(host, older, newer, identity, as_json=json)


@task(name="find", help={**IDENTITY, **JSON, "path": "a part of a path, or a shell pattern"})
def backup_find(_: Context, host: str, path: str, identity: str = "", json: bool = False) -> int:
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
def backup_verify(
    _: Context,
    host: str,
    archive: str = "",
    all: bool = False,
    sample: int = 0,
    identity: str = "",
    json: bool = False,
) -> int:
    """Read an archive from end to end and compare it with its manifest."""
    from swarm.commands import archives as commands

    return commands.verify(host, archive, identity, everything=all, sample=sample, as_json=json)


@task(name="prune", help={**HOST, **PLAN, **YES})
def backup_prune(_: Context, host: str, plan: bool = False, yes: bool = False, json: bool = False) -> int:
    """Remove the archives that the host file's retention lets go."""
    from swarm.commands import backup as commands

    return commands.prune(host, plan_only=plan, yes=yes, as_json=json)


@task(name="key", help={"file": "where to write the secret key; default: swarm-backup.key"})
def backup_key(_: Context, file: str = "") -> int:
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
        "path": "only these files or directories, separated by commas",
        "ip": "make the VM anew at this address first",
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
    if ip:
        return commands.redeploy(host, ip, archive=archive, identity=identity, limit=timeout)
    return commands.restore(
        host, archive=archive, path=path, identity=identity, plan_only=plan, yes=yes, as_json=json
    )


@task(name="install", help={**HOST, **PLAN, "drill": "also install the weekly drill"})
def timers_install(_: Context, host: str, drill: bool = False, plan: bool = False, json: bool = False) -> int:
    """Back hosts up every night, by systemd timers of this user."""
    from swarm.commands import timers as commands

    return commands.install(host, drill=drill, plan_only=plan, as_json=json)


@task(name="status", default=True, help={"host": HOST["host"] + "; default: all", **JSON})
def timers_status(_: Context, host: str = "all", json: bool = False) -> int:
    """Show when each timer runs next, when it last ran, and how that went."""
    from swarm.commands import timers as commands

    return commands.status(host, as_json=json)


@task(name="remove", help={**HOST, **PLAN})
def timers_remove(_: Context, host: str, plan: bool = False, json: bool = False) -> int:
    """Remove the timers of hosts."""
    from swarm.commands import timers as commands

    return commands.remove(host, plan_only=plan, as_json=json)


@task(help={"host": "check for these hosts; default: all", **JSON})
def doctor(_: Context, host: str = "all", json: bool = False) -> int:
    """Check this machine, and suggest a remedy for each problem."""
    from swarm.commands import doctor as commands

    return commands.doctor(host, as_json=json)


@task(
    help={
        "quick": "only the tests that take seconds",
        "only": "run tests whose name matches this expression of pytest's -k",
    }
)
def test(_: Context, quick: bool = False, only: str = "") -> int:
    """Run the tests. All of them start a real VM."""
    from tools import quality

    return quality.test(quick=quick, k=only or None, words=remainder())


@task
def lint(_: Context) -> int:
    """Check types, style, layers, the lock file and the schema."""
    from tools import quality

    return quality.lint()


@task(help={"name": "the name of a program in bench/"})
def bench(_: Context, name: str = "provision") -> int:
    """Measure against comparable tools. Arguments after -- go to the program."""
    from tools import quality

    return quality.bench(name, remainder())


# A collection's default task also has the collection's name: `./inv images` is `./inv images.list`.
namespace = Collection(
    *(
        hosts,
        plan,
        provision,
        install,
        customize,
        verify,
        up,
        status,
        ssh,
        console,
        start,
        stop,
        destroy,
        pin,
        restore,
    ),
    *(doctor, test, lint, bench),
    backup=Collection(
        *(backup_now, backup_list, backup_show, backup_diff, backup_find),
        *(backup_verify, backup_prune, backup_key),
    ),
    images=Collection(images_list, images_prune),
    timers=Collection(timers_install, timers_status, timers_remove),
)
