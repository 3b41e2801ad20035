"""Define every command of swarm. The work is done in swarm/; only modules that load fast are imported here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm.front import handover

handover.to_inv(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib costs 10 ms

from invoke.collection import Collection  # noqa: E402 - another Invoke's Python has to leave before this

from swarm.front.task import remainder, task  # noqa: E402 - as above
from swarm.namespace import backup, hook, images, litellm, timers  # noqa: E402 - as above
from swarm.namespace.words import HOST, JSON, LIMIT, PLAN, TIMEOUT, YES  # noqa: E402 - as above

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    help={
        **JSON,
        "check": "compare them with each other, other files, timers and hypervisors; exit code 1: they disagree",
        "fix": "with --check: first add every host to the instances file, or correct its entry",
    }
)
def hosts(_: Context, check: bool = False, fix: bool = False, json: bool = False) -> int:
    """List the host files, or check them."""
    if check or fix:
        from swarm.commands import fleet

        return fleet.check(fix=fix, as_json=json)
    from swarm.commands import hosts as commands

    return commands.hosts(as_json=json)


@task(
    help={
        "host": "the new host's name",
        "like": "the host whose file is copied; default: the first one on the same hypervisor",
        "ip": "its address; default: a free one",
        "mac": "its MAC address; default: one that follows from its name",
        "hypervisor": "the libvirt URI; default: that of the copied file",
        "timer": "install the backup timer without asking",
        "from": "convert this old Ansible folder instead: one host file for each VM",
        **PLAN,
    }
)
def new(
    _: Context,
    host: str = "",
    like: str = "",
    ip: str = "",
    mac: str = "",
    hypervisor: str = "",
    timer: bool = False,
    from_: str = "",
    plan: bool = False,
    json: bool = False,
) -> int:
    """Make a host file with a free address, and register the host."""
    from swarm.commands import fleet as commands
    from swarm.fleet.new import NewHost

    options = NewHost(host, like, ip, mac, hypervisor)
    return commands.new(options, from_, timer=timer, plan_only=plan, as_json=json)


@task(help={"host": "a host's name", **PLAN, **YES, "force": "also if the hypervisor does not answer"})
def remove(
    _: Context, host: str, plan: bool = False, json: bool = False, yes: bool = False, force: bool = False
) -> int:
    """Remove a host file whose VM no longer exists, with its timers and its entry in the instances file."""
    from swarm.commands import fleet as commands

    return commands.remove(host, plan_only=plan, as_json=json, yes=yes, force=force)


@task(
    help={**HOST, **JSON, "only": "parts, separated by commas: vm, guest, agentmon, timers, backup, litellm"}
)
def plan(_: Context, host: str, only: str = "", json: bool = False) -> int:
    """Show everything that differs from the host files. Exit code 0: nothing, 2: something, 1: not all was examined."""
    from swarm.commands import drift as commands

    return commands.plan(host, only=only, as_json=json)


@task(
    help={
        **HOST,
        **PLAN,
        **TIMEOUT,
        "restart": "restart a running VM if changes are waiting for it",
        "print-user-data": "write cloud-init's user data for a machine of hypervisor.uri: none, and do nothing else",
    }
)
def provision(
    _: Context,
    host: str,
    plan: bool = False,
    json: bool = False,
    restart: bool = False,
    timeout: float = 900,
    print_user_data: bool = False,
) -> int:
    """Create the VM of a host file, or bring it to the state that the file describes."""
    from swarm.commands import vm as commands

    if print_user_data:
        return commands.user_data(host)
    return commands.provision(host, plan_only=plan, as_json=json, restart=restart, limit=timeout)


@task(help={**HOST, **PLAN, **LIMIT, "upgrade": "upgrade packages, and look up the channel's newest version"})
def install(
    _: Context,
    host: str,
    plan: bool = False,
    json: bool = False,
    upgrade: bool = False,
    timeout: float = 7200,
) -> int:
    """Install OpenClaw in a guest: tools, firewall, Docker, Node, the gateway."""
    from swarm.commands import guest as commands

    return commands.install(host, plan_only=plan, as_json=json, upgrade=upgrade, limit=timeout)


@task(help={**HOST, **PLAN, **LIMIT})
def customize(_: Context, host: str, plan: bool = False, json: bool = False, timeout: float = 7200) -> int:
    """Apply swappiness, time zone, share and the host file's own list in a guest."""
    from swarm.commands import guest as commands

    return commands.customize(host, plan_only=plan, as_json=json, limit=timeout)


@task(help={**HOST, **JSON, **LIMIT, "junit": "also write the report to this file, as JUnit XML"})
def verify(_: Context, host: str, junit: str = "", json: bool = False, timeout: float = 1800) -> int:
    """Test every promise on a guest, and show a table of the results."""
    from swarm.commands import guest as commands

    return commands.verify(host, junit=junit, as_json=json, limit=timeout)


@task(
    help={
        **HOST,
        **PLAN,
        **YES,
        "back": "put the old version and state back after an upgrade that was interrupted",
        "timeout": "seconds that the installation may take",
    }
)
def upgrade(
    _: Context,
    host: str,
    plan: bool = False,
    json: bool = False,
    yes: bool = False,
    back: bool = False,
    timeout: float = 7200,
) -> int:
    """Back up, install the newest versions, verify, and put the old version and state back if a promise breaks."""
    from swarm.commands import upgrade as commands

    return commands.upgrade(host, plan_only=plan, yes=yes, back=back, limit=timeout, as_json=json)


@task(help={**HOST, **TIMEOUT})
def up(_: Context, host: str, timeout: float = 900) -> int:
    """Run provision, install, customize and verify, in this order."""
    from swarm.commands import guest as commands

    return commands.up(host, timeout)


@task(
    help={
        "host": HOST["host"] + "; default: all",
        **JSON,
        "watch": "look again every few seconds, until Ctrl-C",
        "every": "the seconds from one look to the next, for --watch",
        "html": "also write a page for a browser to this file",
        "prometheus": "also write metrics for the node exporter's textfile collector to this file",
    }
)
def status(
    _: Context,
    host: str = "all",
    json: bool = False,
    watch: bool = False,
    every: float = 5,
    html: str = "",
    prometheus: str = "",
) -> int:
    """Show every host at a glance. Exit code 0: all is well, 1: a person must act."""
    from swarm.commands import status as commands

    targets = commands.Targets.of(html, prometheus)
    return commands.status(host, as_json=json, watch=watch, every=every, targets=targets)


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
        new,
        remove,
        plan,
        provision,
        install,
        customize,
        verify,
        up,
        upgrade,
        status,
        ssh,
        console,
        start,
        stop,
        destroy,
        pin,
        backup.restore,
        backup.drill,
    ),
    *(doctor, test, lint, bench),
    backup=backup.collection,
    hook=hook.collection,
    images=images.collection,
    litellm=litellm.collection,
    timers=timers.collection,
)
