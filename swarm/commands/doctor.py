"""The command that checks this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.commands.run import chosen
from swarm.console import escape, screen

if TYPE_CHECKING:
    from swarm.inventory import Host
    from swarm.vm.doctor import Finding

__all__ = ["doctor"]

_SIGNS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failure": "[red]✗[/]"}


def doctor(words: str, *, as_json: bool) -> int:
    """Check whether this machine can run the chosen hosts. A broken host file is one more failure."""
    from swarm.vm.doctor import Finding, examine

    selection = chosen(words)
    broken = [Finding("failure", error.message, error.hint) for error in selection.broken.values()]
    findings = [*examine(selection.hosts), *_destinations(selection.hosts), *broken]
    with screen().verdict():
        if as_json:
            screen().json([finding.to_json() for finding in findings])
        else:
            for finding in findings:
                remedy = f"\n    [yellow]remedy:[/] {escape(finding.remedy)}" if finding.remedy else ""
                screen().data(f"{_SIGNS[finding.level]} {escape(finding.what)}{remedy}")
    return 1 if any(finding.level == "failure" for finding in findings) else 0


def _destinations(hosts: list[Host]) -> list[Finding]:
    """Probe the destinations of backups that host files name. Each is probed once."""
    from swarm.backup.probe import probe
    from swarm.backup.repository import open_destinations
    from swarm.vm.doctor import Finding

    found: dict[str, list[Finding]] = {}
    for host in hosts:
        for destination in open_destinations(host.name, host.backup) if host.backup.destinations else ():
            if destination.url not in found:
                found[destination.url] = [
                    Finding("ok" if good else "failure", f"{destination.url}: {what}{_more(details)}", None)
                    for what, good, details in probe(destination)
                ]
    return [finding for findings in found.values() for finding in findings]


def _more(details: str) -> str:
    return f": {details}" if details else ""
