"""Steps for programs of npm that come in one version, whose archives' checksums are known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarm.guest.engine.step import Step
from swarm.guest.kinds.npm import VERSION_LINE
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NPM", "PNPM", "Pinned", "pinned"]


@dataclass(frozen=True)
class Pinned:
    """A program of npm in the one version that is installed."""

    name: str
    version: str
    integrity: str
    """The checksum of its archive, as npm writes it."""
    programs: Mapping[str, str]
    """The file of each of its programs, below the package."""
    natives: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """For each architecture, by its name in dpkg, the package that holds the binary, and its archive's checksum. The
    binary takes the place of all programs."""


# Both were taken from npm's registry with `npm view NAME@VERSION dist.integrity`.
PNPM = Pinned(
    "pnpm",
    "12.21.0",
    "sha512-Zv2CeO4ok1zpUXktNDZ/869cQyonVkRYIwKVM4NbjaUpu+C+UTCv1W7QcT+4eJ5Hutgtk71a4v5UsVVi1idu8A==",
    {name: name for name in ("pnpm", "pn", "pnpx", "pnx")},
    {
        "amd64": (
            "@pnpm/exe.linux-x64",
            "sha512-8eufCjHXspKbNS/kh8q4Q0gqJoOuvC4Q5pgos6XS8By/nAMtP+jf8F1Cw9er840kfAX+PJ/ts+A9qnLE91rvXQ==",
        ),
        "arm64": (
            "@pnpm/exe.linux-arm64",
            "sha512-4Oj/iF2TDCe2lcH0n4TupPR5sSdrNLclJB6xBElLMPCUOAvBhdf2rRlSaO5M4erJ6g4Fyy7YTXTpcmfFsKyxEA==",
        ),
    },
)
NPM = Pinned(
    "npm",
    "12.2.1",
    "sha512-bKCmFRVT/BB+YPEYbZwQ1XUI3N5t4xKSpU1MxOjo7z3iWzKBJ0ZXRC1xFdEN+TC7N5TdywaBzf2dMXGJq/e2PQ==",
    {"npm": "bin/npm-cli.js", "npx": "bin/npx-cli.js"},
)


def pinned(package: Pinned, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a program that is unpacked below /usr/local from archives with the known checksums.

    No script of a package runs, and nothing else is fetched. A program that does not work is removed.
    """
    place = f"/usr/local/lib/node_modules/{package.name}"
    script = render("guest/npm-pinned.sh.j2", package=package, place=place, prefix="/usr/local")
    manifest = quote(f"{place}/package.json")
    return Step(
        subject=f"npm package {package.name}",
        probe=f"[ -e {manifest} ] && sed -n {quote(VERSION_LINE)} {manifest} | head -n1\n:",
        wanted=package.version,
        apply=lambda fact: None if fact == package.version else script,
        after=after,
        shown=lambda fact: fact or None,
    )
