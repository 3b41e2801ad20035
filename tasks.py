"""Every command of swarm. The work is done in swarm/; what is imported at the top is light, so that a list is quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.front.program import remainder, task

if TYPE_CHECKING:
    from invoke.context import Context

HOST = {"host": "a host's name, several with commas, or all"}
PLAN = {"plan": "only show what would change", "json": "write data for scripts to stdout"}
TIMEOUT = {"timeout": "seconds that all waiting together may take"}


@task(help={"json": PLAN["json"]})
def hosts(_: Context, json: bool = False) -> int:
    """List the host files."""
    from swarm.commands import verbs as commands

    return commands.hosts(as_json=json)


@task(help={**HOST, "json": PLAN["json"]})
def plan(_: Context, host: str, json: bool = False) -> int:
    """Show what would change; exit code 0: nothing, 2: something."""
    from swarm.commands import verbs as commands

    return commands.plan(host, as_json=json)


@task(help={**HOST, **PLAN, **TIMEOUT, "restart": "restart a running VM if changes wait for it"})
def provision(
    _: Context, host: str, plan: bool = False, json: bool = False, restart: bool = False, timeout: float = 900
) -> int:
    """Make the VM of a host file, or bring it to what the file says."""
    from swarm.commands import verbs as commands

    return commands.provision(host, plan_only=plan, as_json=json, restart=restart, limit=timeout)


@task(
    help={**HOST, **PLAN, "upgrade": "bring packages to their newest version, and resolve the channel anew"}
)
def install(_: Context, host: str, plan: bool = False, json: bool = False, upgrade: bool = False) -> int:
    """Install OpenClaw in a guest: tools, firewall, Docker, Node, the gateway."""
    from swarm.commands import verbs as commands

    return commands.install(host, plan_only=plan, as_json=json, upgrade=upgrade)


@task(help={**HOST, **PLAN})
def customize(_: Context, host: str, plan: bool = False, json: bool = False) -> int:
    """Apply swappiness, time zone, share and the host file's own list in a guest."""
    from swarm.commands import verbs as commands

    return commands.customize(host, plan_only=plan, as_json=json)


@task(help={**HOST, "junit": "also write the report to this file, in JUnit's XML", "json": PLAN["json"]})
def verify(_: Context, host: str, junit: str = "", json: bool = False) -> int:
    """Test every promise on a guest, with a table of what was found."""
    from swarm.commands import verbs as commands

    return commands.verify(host, junit=junit, as_json=json)


@task(help={**HOST, **TIMEOUT})
def up(_: Context, host: str, timeout: float = 900) -> int:
    """All four in order: provision, install, customize, verify."""
    from swarm.commands import verbs as commands

    return commands.up(host, timeout)


@task(help={"host": HOST["host"] + "; all if not given", "json": PLAN["json"]})
def status(_: Context, host: str = "all", json: bool = False) -> int:
    """Show how each host is: VM, SSH, drift."""
    from swarm.commands import verbs as commands

    return commands.status(host, as_json=json)


@task(help={"host": "a host's name", "user": "log in as this user (root or openclaw)"})
def ssh(_: Context, host: str, user: str = "root") -> int:
    """Log into a guest; words after -- are run there instead."""
    from swarm.commands import verbs as commands

    return commands.ssh(host, user, remainder())


@task(
    help={
        "host": "a host's name",
        "follow": "go on showing what comes",
        "screenshot": "write the screen to this PNG file instead",
    }
)
def console(_: Context, host: str, follow: bool = False, screenshot: str = "") -> None:
    """Show what the VM's serial console said since its start, or its screen."""
    from swarm.commands import verbs as commands

    commands.console(host, follow=follow, picture=screenshot)


@task(help={**HOST, **TIMEOUT, "json": PLAN["json"]})
def start(_: Context, host: str, timeout: float = 900, json: bool = False) -> int:
    """Start a VM and wait until its guest is ready."""
    from swarm.commands import verbs as commands

    return commands.start(host, timeout, as_json=json)


@task(
    help={
        **HOST,
        "timeout": "seconds that the guest has to power off",
        "force": "pull the plug",
        "json": PLAN["json"],
    }
)
def stop(_: Context, host: str, timeout: float = 90, force: bool = False, json: bool = False) -> int:
    """Power a guest off, and wait until it is."""
    from swarm.commands import verbs as commands

    return commands.stop(host, timeout, force=force, as_json=json)


@task(help={**HOST, **PLAN, "yes": "do not ask"})
def destroy(_: Context, host: str, plan: bool = False, json: bool = False, yes: bool = False) -> int:
    """Remove a VM with its disk and all that was made for it."""
    from swarm.commands import verbs as commands

    return commands.destroy(host, plan_only=plan, as_json=json, yes=yes)


@task(help={"host": "a host's name", "yes": "do not ask"})
def pin(_: Context, host: str, yes: bool = False) -> None:
    """Pin the host key that a guest has now, after you changed it; its agent tells it."""
    from swarm.commands import verbs as commands

    commands.pin(host, yes=yes)


@task(help={"prune": "remove what no VM and no host file uses", "yes": "do not ask", "json": PLAN["json"]})
def images(_: Context, prune: bool = False, yes: bool = False, json: bool = False) -> int:
    """List the image catalogue, the cache and the base images of each hypervisor."""
    from swarm.commands import verbs as commands

    return commands.images(prune=prune, yes=yes, as_json=json)


@task(help={"host": "check for these hosts; all if not given", "json": PLAN["json"]})
def doctor(_: Context, host: str = "all", json: bool = False) -> int:
    """Check whether this machine is fit, with a remedy for each lack."""
    from swarm.commands import verbs as commands

    return commands.doctor(host, as_json=json)


@task(
    help={
        "quick": "only the part that takes seconds",
        "only": "run tests whose name matches this expression of pytest's -k",
    }
)
def test(_: Context, quick: bool = False, only: str = "") -> int:
    """Run the tests; all of them start a real VM."""
    from tools import quality

    return quality.test(quick=quick, k=only or None, words=remainder())


@task
def lint(_: Context) -> int:
    """Check types, style, layers, the lock file and the schema."""
    from tools import quality

    return quality.lint()


@task(help={"name": "which one: the name of a program in bench/"})
def bench(_: Context, name: str = "provision") -> int:
    """Measure against the real peers; words after -- go to the program."""
    from tools import quality

    return quality.bench(name, remainder())
