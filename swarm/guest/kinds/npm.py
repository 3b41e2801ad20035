"""A step for global packages of pnpm, and how versions are read and compared."""

from __future__ import annotations

import re

from swarm.guest.engine.script import as_user
from swarm.guest.engine.step import Step
from swarm.text import quote

__all__ = ["VERSION_LINE", "in_range", "pnpm_global"]

VERSION_LINE = r's/^ *"version": *"\([^"]*\)".*/\1/p'  # for sed, on a package.json


def in_range(found: str, version: str, lowest: str) -> bool:
    """Return whether the version `found`, empty if there is none, is in the range `version`, and not below `lowest`."""
    if not found or re.fullmatch(r"\d+\.\d+\.\d+", version):
        return found == version
    major = re.fullmatch(r"(\d+)(\.x)?", version)
    return (not major or found.partition(".")[0] == major[1]) and _numbers(found) >= _numbers(lowest)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def pnpm_global(user: str, name: str, home: str, record: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a package that pnpm installs for one user, in the version that the file `record` holds.

    The fact is the version that the program's shim in PNPM_HOME leads to, the recorded one, and the checksums of the
    archive that pnpm has installed and of the recorded one, "none" for what is not there. Build scripts of the
    package may run once its checksum has been compared, since its author asks for them. Those of its dependencies are
    not needed and stay off.
    """
    shim = quote(f"{home}/.local/share/pnpm/bin/{name}")
    recorded = f"sed -n 's/^{{}} //p' {quote(record)} | grep . || echo none"
    probe = f"""
target=$(sed -n 's/^# cmd-shim-target=//p' {shim})
if [ -n "$target" ]; then
  sed -n {quote(VERSION_LINE)} "$(dirname "$target")/package.json" 2>/dev/null | head -n1 | grep . || echo none
else
  echo none
fi
{recorded.format("version")}
pnpm_integrity {quote(name)} "$target"
{recorded.format("integrity")}
"""

    def apply(fact: str) -> str | None:
        installed, version, there, wanted = fact.split("\n")
        if version == "none":
            return "echo 'no version is recorded'; exit 1"
        if installed == version and wanted in {"none", there}:
            return None
        return as_user(user, _pnpm_add(name, version, wanted, shim))

    return Step(
        subject=f"pnpm package {name}",
        probe=probe,
        wanted="the recorded version",
        apply=apply,
        after=after,
        shown=lambda fact: None if fact.startswith("none\n") else fact.partition("\n")[0],
        reader=user,
        unread="none\nnone\nnone\nnone",
    )


def _pnpm_add(name: str, version: str, integrity: str, shim: str) -> str:
    """Shell that installs a package, first without any script. With another checksum it is removed again."""
    add = "pnpm add --global --reporter=append-only"
    what = quote(f"{name}@{version}")
    script = ['mkdir -p "$PNPM_HOME/bin"']
    if integrity != "none":
        script.append(f"""{add} --ignore-scripts {what}
found=$(pnpm_integrity {quote(name)} "$(sed -n 's/^# cmd-shim-target=//p' {shim})")
if [ "$found" != {quote(integrity)} ]; then
  pnpm remove --global {quote(name)} || :
  echo {quote(f"{name}@{version} is not the recorded one: its checksum is not {integrity}, but")} "$found"
  exit 1
fi""")
    return "\n".join([*script, f"{add} --allow-build={quote(name)} {what}"])
