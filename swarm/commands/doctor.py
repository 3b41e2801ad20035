"""The command that checks this machine."""

from __future__ import annotations

from swarm.commands.run import chosen
from swarm.console import escape, screen

__all__ = ["doctor"]

_SIGNS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failure": "[red]✗[/]"}


def doctor(words: str, *, as_json: bool) -> int:
    """Check whether this machine can run the chosen hosts. A broken host file is one more failure."""
    from swarm.vm.doctor import Finding, examine

    selection = chosen(words)
    broken = [Finding("failure", error.message, error.hint) for error in selection.broken.values()]
    findings = [*examine(selection.hosts), *broken]
    if as_json:
        screen().json([finding.to_json() for finding in findings])
    else:
        for finding in findings:
            remedy = f"\n    [yellow]remedy:[/] {escape(finding.remedy)}" if finding.remedy else ""
            screen().data(f"{_SIGNS[finding.level]} {escape(finding.what)}{remedy}")
    return 1 if any(finding.level == "failure" for finding in findings) else 0
