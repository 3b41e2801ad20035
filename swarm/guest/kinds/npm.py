"""Steps for global packages of npm and pnpm."""

from __future__ import annotations

import re

from swarm.guest.engine.script import as_user
from swarm.guest.engine.step import Step
from swarm.text import quote

__all__ = ["npm_global", "pnpm_global"]

_VERSION_LINE = r's/^ *"version": *"\([^"]*\)".*/\1/p'  # for sed, on a package.json


def npm_global(
    name: str,
    version: str,
    check: str,
    *,
    lowest: str = "0",
    program: str = "npm",
    after: tuple[str, ...] = (),
) -> Step:
    """Return a step for a package that npm, or the npm called `program`, installs for all users, below /usr/local.

    `version` is exact, or a range such as '24.x' or 'latest', in which any installed version from `lowest` on is good.
    `check` is shell that fails if the package does not work. It is then removed, so that the next run starts over.
    """
    place = quote(f"/usr/local/lib/node_modules/{name}/package.json")
    where = "--global --prefix /usr/local --no-fund --no-audit --loglevel=error --"
    install = f"{program} install {where} {quote(f'{name}@{version}')}"
    # npm silently skips an optional part that it cannot fetch. In pnpm's case that part is the program.
    undo = f"{program} uninstall {where} {quote(name)}"
    again = f"{undo}\n{install}\n{check} >/dev/null || {{ {undo}; exit 1; }}"
    script = f"{install}\nif ! {check} >/dev/null; then\n{again}\nfi"
    return Step(
        subject=f"npm package {name}",
        probe=f"[ -e {place} ] && sed -n {quote(_VERSION_LINE)} {place}\n:",
        wanted=version,
        apply=lambda fact: None if _good(fact, version, lowest) else script,
        after=after,
        shown=lambda fact: fact or None,
    )


def _good(found: str, version: str, lowest: str) -> bool:
    """Whether the installed version, empty if there is none, is in the range `version`, and not below `lowest`."""
    if not found or re.fullmatch(r"\d+\.\d+\.\d+", version):
        return found == version
    major = re.fullmatch(r"(\d+)(\.x)?", version)
    return (not major or found.partition(".")[0] == major[1]) and _numbers(found) >= _numbers(lowest)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def pnpm_global(user: str, name: str, home: str, record: str, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a package that pnpm installs for one user, in the version that the file `record` holds.

    The fact is the version that the program's shim in PNPM_HOME leads to, and the recorded one. Build scripts of the
    package may run, since its author asks for them. Those of its dependencies are not needed and stay off.
    """
    shim = quote(f"{home}/.local/share/pnpm/bin/{name}")
    probe = f"""
target=$(sed -n 's/^# cmd-shim-target=//p' {shim})
if [ -n "$target" ]; then
  sed -n {quote(_VERSION_LINE)} "$(dirname "$target")/package.json" 2>/dev/null | head -n1 | grep . || echo none
else
  echo none
fi
sed -n 's/^version //p' {quote(record)} | grep . || echo none
"""

    def apply(fact: str) -> str | None:
        installed, recorded = fact.split("\n")
        if recorded == "none":
            return "echo 'no version is recorded'; exit 1"
        if installed == recorded:
            return None
        add = f"pnpm add --global --reporter=append-only --allow-build={quote(name)} {quote(f'{name}@{recorded}')}"
        return as_user(user, f'mkdir -p "$PNPM_HOME/bin"\n{add}')

    return Step(
        subject=f"pnpm package {name}",
        probe=probe,
        wanted="the recorded version",
        apply=apply,
        after=after,
        shown=lambda fact: None if fact.startswith("none\n") else fact.partition("\n")[0],
        reader=user,
        unread="none\nnone",
    )
