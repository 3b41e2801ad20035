"""The steps for what OpenClaw runs on: Node and pnpm, Docker, Tailscale. The host file names their sources."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from swarm.errors import Refused
from swarm.guest.engine.step import Step
from swarm.guest.kinds.accounts import member
from swarm.guest.kinds.archives import NPM, PNPM, pinned
from swarm.guest.kinds.documents import json_file
from swarm.guest.kinds.node import fetched_node
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.repositories import Repository, apt_key, apt_repository
from swarm.guest.kinds.units import unit
from swarm.inventory.inside import Source
from swarm.inventory.node import LOWEST, NEEDED, runs_openclaw
from swarm.paths import expanded
from swarm.templates import render

if TYPE_CHECKING:
    from swarm.inventory.inside import InstallSettings

__all__ = ["auth_key", "docker", "found_node", "node", "tailscale", "with_defaults"]

_DAEMON_JSON = "/etc/docker/daemon.json"
_JOINED = "Running"  # a state of Tailscale's backend

# The parts of Docker at docker.com. apparmor: where the kernel has AppArmor switched on, as Debian's and Ubuntu's do,
# Docker needs its programs to start a container.
_DOCKER_COM = (
    "docker-ce",
    "docker-ce-cli",
    "containerd.io",
    "docker-buildx-plugin",
    "docker-compose-plugin",
    "apparmor",
)
# The same in the distributions. Debian 12 has compose as a Python program, and no buildx. Later releases and Ubuntu
# have both as plugins.
_DOCKER_DISTRIBUTION = (
    "docker.io",
    "docker-cli|docker.io",
    "docker-buildx|",
    "docker-compose-v2|docker-compose",
    "iptables",
    "apparmor",
)

# The fingerprints are those that the vendors publish in their installation instructions.
_SOURCES = {
    "nodesource": Source(
        uri="https://deb.nodesource.com/node_{major}.x",
        suite="nodistro",
        components="main",
        key_url="https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key",
        fingerprint="6F71 F525 2828 41EE DAF8 51B4 2F59 B5F9 9B1B E0B4",
    ),
    "docker": Source(
        uri="https://download.docker.com/linux/{id}",
        suite="{codename}",
        components="stable",
        key_url="https://download.docker.com/linux/debian/gpg",
        fingerprint="9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88",
    ),
    "tailscale": Source(
        uri="https://pkgs.tailscale.com/stable/{id}",
        suite="{codename}",
        components="main",
        key_url="https://pkgs.tailscale.com/stable/debian/bookworm.noarmor.gpg",
        fingerprint="2596 A99E AAB3 3821 893C 0A79 458C A832 957F 5868",
    ),
}


def _repository(settings: InstallSettings, name: str, *pinned: str, **values: str) -> Repository:
    """The repository `name`, or the host file's mirror of it, with `values` in its URI."""
    source = settings.sources.get(name, _SOURCES[name])  # type: ignore[call-overload]
    uri = source.uri
    for key, value in values.items():
        uri = uri.replace(f"{{{key}}}", value)
    return Repository(name, uri, source.suite, source.components, source.key_url, source.fingerprint, pinned)


def _vendor(repository: Repository, after: tuple[str, ...]) -> list[Step]:
    """The steps for a vendor's repository. After the last one it is in apt's sources, with a key that is good."""
    key = apt_key(repository, after=after)
    return [key, apt_repository(repository, after=after, reacts_to=(key.subject,))]


def node(settings: InstallSettings, after: tuple[str, ...], *, upgrade: bool) -> list[Step]:
    """Return the steps for Node, npm and pnpm. After the last one, all three are installed."""
    major = settings.nodejs_version.split(".")[0]
    lowest = {"nodejs": LOWEST if major == "24" else "26.1"}
    if settings.nodejs_source == "nodesource":
        steps = _nodesource(settings, after, major, lowest, upgrade=upgrade)
    elif settings.nodejs_source == "distribution":
        steps = [packages("Node", ("nodejs", "npm"), after=after, at_least=lowest, upgrade=upgrade)]
    else:
        steps = _node_of_npm(settings, after, lowest["nodejs"])
    return [*steps, pinned(PNPM, after=(steps[-1].subject,))]


def _nodesource(
    settings: InstallSettings, after: tuple[str, ...], major: str, lowest: dict[str, str], *, upgrade: bool
) -> list[Step]:
    source = _vendor(_repository(settings, "nodesource", "nodejs", major=major), after)
    program = packages(
        "Node",
        ("nodejs",),
        after=(source[-1].subject,),
        from_repository=True,
        at_least=lowest,
        upgrade=upgrade,
    )
    return [*source, program]


def _node_of_npm(settings: InstallSettings, after: tuple[str, ...], lowest: str) -> list[Step]:
    # Node 26 is linked with libatomic, which a small system lacks; Node 24 is not.
    library = () if settings.nodejs_version.startswith("24") else ("libatomic1",)
    pip = packages("pip, to fetch npm with", ("python3", "python3-pip-whl", *library), after=after)
    program = fetched_node(settings.nodejs_version, lowest, after=(pip.subject,))
    return [pip, program, pinned(NPM, after=(program.subject,))]


def found_node(settings: InstallSettings, after: tuple[str, ...]) -> Step:
    """Return a step that refuses a Node of others that the account's PATH finds first and OpenClaw can't run with."""
    replaced = {"/usr/bin/node", "/bin/node"}
    if settings.nodejs_source == "npm":
        replaced.add("/usr/local/bin/node")

    def refuse(fact: str) -> str | None:
        path, _, version = fact.partition("\n")
        if not version or path in replaced or runs_openclaw(version):
            return None
        found = f"the PATH of {settings.user} finds {path} first, which is Node {version}"
        return f"{found}; OpenClaw needs {NEEDED}: remove it"

    return Step(
        subject="Node in the PATH",
        probe="command -v node && node --version; :",
        wanted="one that OpenClaw can run with",
        after=after,
        refuse=refuse,
        reader=settings.user,
    )


def docker(settings: InstallSettings, after: tuple[str, ...], account: str, *, upgrade: bool) -> list[Step]:
    """Return the steps for Docker with buildx and compose. After the last one, OpenClaw's account may use it.

    `account` is the subject of the step for that account.
    """
    steps: list[Step] = []
    names = _DOCKER_DISTRIBUTION
    if settings.docker_source == "docker.com":
        source = _repository(settings, "docker", "docker-ce", "docker-ce-cli", "containerd.io")
        steps, names = _vendor(source, after), _DOCKER_COM
    ready = (steps[-1].subject,) if steps else after
    daemon = json_file(_DAEMON_JSON, with_defaults, "with live-restore and rotated logs")
    software = packages(
        "Docker", names, after=(*ready, daemon.subject), from_repository=bool(steps), upgrade=upgrade
    )
    service = unit(
        "docker.service", config=(_DAEMON_JSON,), after=(software.subject,), reacts_to=(daemon.subject,)
    )
    return [
        *steps,
        daemon,
        software,
        service,
        member(settings.user, "docker", after=(software.subject, account)),
    ]


def with_defaults(daemon: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of Docker's daemon.json with swarm's where it has none. Every setting that is there stays.

    The options of logs belong to a log driver, so another driver than swarm's keeps its own.
    """
    defaults: dict[str, Any] = json.loads(render("guest/docker-daemon.json.j2"))
    options = defaults.pop("log-opts")
    merged = defaults | daemon
    own = daemon.get("log-opts", {})
    if merged["log-driver"] == defaults["log-driver"] and isinstance(own, dict):
        merged["log-opts"] = options | own
    return merged


def tailscale(
    settings: InstallSettings, after: tuple[str, ...], key: str | None, *, upgrade: bool
) -> list[Step]:
    """Return the steps for Tailscale. After the last one the guest has joined with the auth key `key`."""
    repository = _vendor(_repository(settings, "tailscale"), after)
    software = packages(
        "Tailscale", ("tailscale",), after=(repository[-1].subject,), from_repository=True, upgrade=upgrade
    )
    service = unit("tailscaled.service", after=(software.subject,))
    join = render("guest/tailscale-join.sh.j2", key=key or "")
    refusal = f"Tailscale is enabled, but {_where(settings)} holds no auth key to join with"
    joined = Step(
        subject="Tailscale network",
        probe=render("guest/tailscale-state.sh.j2"),
        wanted=_JOINED,
        apply=lambda fact: None if fact == _JOINED else join,
        after=(service.subject,),
        refuse=lambda fact: None if fact == _JOINED or key else refusal,
        shown=lambda fact: fact or None,
        secrets=(key,) if key else (),
    )
    return [*repository, software, service, joined]


def _where(settings: InstallSettings) -> str:
    """The place of Tailscale's auth key, for people."""
    if settings.tailscale_authkey_file:
        return f"the file {settings.tailscale_authkey_file}"
    return f"the environment variable {settings.tailscale_authkey_env}"


def auth_key(settings: InstallSettings) -> str | None:
    """Return Tailscale's auth key from the file or the environment variable that the settings name.

    Return None if it is empty. Raise Refused if the file can't be read.
    """
    path = settings.tailscale_authkey_file
    if path is None:
        return os.environ.get(settings.tailscale_authkey_env) or None
    try:
        return expanded(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not UTF-8 text")
        raise Refused(f"Tailscale's auth key: {path} can't be read: {reason}") from None
