"""Steps for apt packages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swarm.guest.engine.step import Step
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["packages"]


def packages(
    what: str,
    names: Sequence[str],
    *,
    after: tuple[str, ...] = (),
    from_repository: bool = False,
    at_least: Mapping[str, str] | None = None,
    upgrade: bool = False,
) -> Step:
    """Return a step for a group of apt packages, called `what`.

    A name may list alternatives, best first: 'docker-compose-v2|docker-compose'. One that ends in '|' may be missing.
    `at_least` gives the lowest version that is good. With `upgrade`, the newest version that apt offers is wanted. With
    `from_repository`, an unknown package is no reason to refuse: a repository that is added before will have it.
    """
    lowest = dict(at_least or {})
    everything = sorted({name for spec in names for name in _choices(spec)})

    def missing(fact: str) -> list[str]:
        found = _Found.read(fact)
        return [name for spec in names if (name := found.missing(spec, upgrade=upgrade))]

    def apply(fact: str) -> str | None:
        needed = missing(fact)
        if not needed:
            return None
        install = f"apt install --no-install-recommends -- {quote(*needed)}"
        # Lists that are too old lead to packages that are gone: fetch them and try once more.
        found = _Found.read(fact)
        first = "" if found.lists and not upgrade and not found.old else "apt_lists\n"
        return f"dpkg_configure\n{first}{install} || {{ apt_lists; {install}; }}"

    def refuse(fact: str) -> str | None:
        found = _Found.read(fact)
        # A repository that is added before may be what makes them whole.
        if found.broken and not from_repository:
            return f"apt cannot read the guest's package sources: {found.broken}"
        if from_repository or not found.lists:
            return None
        if found.low:
            low = [
                f"{name} {version}, but {lowest[name]} or later is needed"
                for name, version in found.low.items()
            ]
            return "; ".join(f"the guest's package sources have {text}" for text in low)
        unknown = [name for name in missing(fact) if name not in found.candidates]
        return f"the guest's package sources have no package {', '.join(unknown)}" if unknown else None

    def shown(fact: str) -> str | None:
        needed = missing(fact)
        return f"without {', '.join(needed)}" if len(needed) < len(names) else None

    return Step(
        subject=f"packages: {what}",
        probe=_probe(names, everything, lowest, upgrade=upgrade),
        wanted=", ".join(spec.partition("|")[0] for spec in names),
        apply=apply,
        after=after,
        refuse=refuse,
        shown=shown,
        known={"packages": tuple(everything)},
    )


def _choices(spec: str) -> list[str]:
    return [name for name in spec.split("|") if name]


def _probe(
    names: Sequence[str], everything: Sequence[str], lowest: Mapping[str, str], *, upgrade: bool
) -> str:
    lines = [
        f"packages_installed {quote(*everything)}",
        *(f"packages_lowest {quote(name, version)}" for name, version in lowest.items()),
        f"packages_candidates {int(upgrade)} {quote(*names)}",
        *(f"packages_offered {quote(name, version)}" for name, version in lowest.items()),
        ":",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class _Found:
    """A fact: are apt's lists fresh, and versions by package: installed, offered, too old, and offered but too low."""

    lists: bool
    installed: Mapping[str, str]
    candidates: Mapping[str, str]
    old: Mapping[str, str]
    low: Mapping[str, str]
    broken: str = ""  # apt's own words, if it cannot read its sources

    @classmethod
    def read(cls, fact: str) -> _Found:
        rows = [row.split() for row in fact.splitlines()]
        tables: dict[str, dict[str, str]] = {"installed": {}, "candidate": {}, "old": {}, "low": {}}
        for row in rows:
            match row:
                case [kind, name, version] if kind in tables:
                    tables[kind][name] = version
        broken = [" ".join(row[1:]) or "it gives no reason" for row in rows if row[:1] == ["broken"]]
        found = cls(["lists"] in rows, tables["installed"], tables["candidate"], tables["old"], tables["low"])
        return replace(found, broken="".join(broken[:1]))

    def missing(self, spec: str, *, upgrade: bool) -> str | None:
        """The package of a name's alternatives that must be installed or upgraded, or None."""
        choices = _choices(spec)
        have = [name for name in choices if name in self.installed]
        if have and self._good(have[0], upgrade=upgrade):
            return None
        offered = have or [name for name in choices if name in self.candidates]
        if offered or not spec.endswith("|"):
            return (offered or choices)[0]
        return None

    def _good(self, name: str, *, upgrade: bool) -> bool:
        newest = self.candidates.get(name, self.installed[name])
        return name not in self.old and not (upgrade and newest != self.installed[name])
