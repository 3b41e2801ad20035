"""Steps for mounted file systems."""

from __future__ import annotations

from swarm.guest.engine.step import Step
from swarm.guest.kinds.edits import edit
from swarm.guest.kinds.parts import rows
from swarm.text import quote

__all__ = ["mount"]

_BLANKS = str.maketrans({"\\": "\\134", " ": "\\040", "\t": "\\011"})  # as fstab(5) writes them


def mount(
    spec: str, target: str, kind: str, options: str, *, after: tuple[str, ...] = ()
) -> tuple[Step, Step]:
    """Return the two steps of a mount: its line in /etc/fstab, and that it is mounted now."""
    place = target.translate(_BLANKS)
    entry = f"{spec.translate(_BLANKS)} {place} {kind} {options} 0 0"

    def change(content: str) -> str:
        lines = rows(content)
        same = [old for old in lines if not old.lstrip().startswith("#") and old.split()[1:2] == [place]]
        if [old.split() for old in same] == [entry.split()]:
            return content
        return "\n".join([*(old for old in lines if old not in same), entry]) + "\n"

    def apply(fact: str) -> str | None:
        if fact.split() == [spec, kind]:
            return None
        away = "" if fact == "none" else f"umount -- {quote(target)}\n"
        return f"systemctl daemon-reload\nmkdir -p -- {quote(target)}\n{away}mount -- {quote(target)}"

    line = edit("/etc/fstab", f"fstab {target}", change, f"{spec} ({kind}, {options})", after=after)
    now = Step(
        subject=f"mount {target}",
        probe=f"findmnt -n -o SOURCE,FSTYPE --mountpoint {quote(target)} || echo none",
        wanted=f"{spec} ({kind})",
        apply=apply,
        after=(line.subject,),
        shown=lambda fact: None if fact == "none" else " ".join(fact.split()),
    )
    return line, now
