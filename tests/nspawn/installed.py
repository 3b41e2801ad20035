"""A machine on which everything is installed, shared by the tests that need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.console import Screen, Talk
from swarm.deadline import Deadline
from swarm.guest.customize import customize
from swarm.guest.install.steps import install
from swarm.inventory.inside import Customize, InstallSettings
from swarm.text import quote
from tests.nspawn.registry import releases
from tools.lab import base_tree

if TYPE_CHECKING:
    from tools.lab import Keeper, Machine, World

__all__ = ["KEY", "OWN", "SETTINGS", "Installed", "NextRelease"]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJsgVAbu2GKBfVKE4fOWwTDfv4fWcBMVjb8d0p4u8CVx tests"
# What is in reach without the internet: the distribution's Docker, and Node from the npm registry.
REACHABLE = {"nodejs_source": "npm", "docker_source": "distribution"}
SETTINGS = InstallSettings.model_validate({**REACHABLE, "ssh_keys": [KEY]})
OWN = Customize.model_validate(
    {
        "swappiness": 10,
        "timezone": "Europe/Berlin",
        "customize": [
            {"file": "/etc/motd", "content": "it's mine: $HOME\n", "mode": "0644"},
            {"sysctl": "net.core.somaxconn", "value": 2048},
            {"package": "tree"},
            {
                "command": 'tree --version >/var/lib/tree-version\necho "it\'s done"',
                "creates": "/var/lib/tree-version",
            },
            {"command": "touch ~/mine", "unless": "test -e ~/mine", "user": "openclaw"},
        ],
    }
)


class Installed:
    """A machine that reaches the package registries, and on request has everything installed. The keeper boots it."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._state: tuple[Machine, int] | None = None
        self._attempts = 2  # an installation that fails twice fails always

    def bare(self) -> Machine:
        """Return the machine, or a new one if it is not healthy."""
        return self._keeper.get()

    def host(self, failures: int) -> Machine:
        """Return it installed and customized, again if it is a new machine or the count of `failures` has changed."""
        machine, talk = self.bare(), Talk(Screen())
        if self._state != (machine, failures):
            assert self._attempts, "an earlier test has reported why the installation fails"
            self._attempts -= 1
            if self._state and self._state[0] is machine:
                # A test that failed may have left the tests' own key among those that swarm converges.
                key = machine.world.key.with_suffix(".pub").read_text().strip()
                machine.ssh(f"echo {quote(key)} >>/root/.ssh/authorized_keys")
            install(machine.guest(), SETTINGS, talk, deadline=Deadline(1500))
            customize(machine.guest(), OWN, talk, deadline=Deadline(600))
            self._attempts += 1
            self._state = (machine, failures)
        return machine


class NextRelease:
    """A machine of Debian 13 with the release of OpenClaw before the newest, and with OWN. It is made on first use.

    Its Node is one that swarm has no checksum of.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._machine: Machine | None = None
        # The tests' own key too, since swarm converges the keys.
        own = world.key.with_suffix(".pub").read_text(encoding="utf-8").strip()
        older = {"version": releases("openclaw")[-2], "ssh_keys": (KEY, own), "nodejs_version": "24.20.0"}
        self.settings = SETTINGS.model_copy(update=older)

    def host(self) -> Machine:
        """Return it installed and customized."""
        if self._machine is None:
            machine, talk = self._world.machine(base_tree("trixie"), internet=True), Talk(Screen())
            install(machine.guest(), self.settings, talk, deadline=Deadline(1500))
            customize(machine.guest(), OWN, talk, deadline=Deadline(600))
            machine.guest().close()
            self._machine = machine
        return self._machine
