"""Steps for kernel settings."""

from __future__ import annotations

from swarm.guest.engine.step import Step
from swarm.guest.kinds.parts import body, content_put, head, sha256
from swarm.text import quote

__all__ = ["sysctl"]


def sysctl(key: str, value: str) -> Step:
    """Return a step for a kernel setting: its present value, and its value after a reboot."""
    # The last file that sets a key wins, so the name sorts after the distributions' 99-sysctl.conf.
    path = f"/etc/sysctl.d/99-zz-swarm-{key}.conf"
    content = f"# Written by swarm.\n{key} = {value}\n"
    place = "/proc/sys/" + key.replace(".", "/")

    def persisted(fact: str) -> bool:
        return head(body(fact)) == f"file 644 root root {sha256(content)}"

    def apply(fact: str) -> str | None:
        script = []
        if not persisted(fact):
            script.append(content_put(path, content, "644"))
        if head(fact).split() != value.split():
            script.append(f"printf '%s' {quote(value)} >{quote(place)}")
        return "\n".join(script) or None

    return Step(
        subject=f"sysctl {key}",
        probe=f"setting_fact {quote(place)}; file_fact {quote(path)} {sha256(content)} quiet",
        wanted=f"{value}, persisted",
        apply=apply,
        refuse=lambda fact: f"this kernel has no setting {key}" if head(fact) == "unknown" else None,
        shown=lambda fact: f"{head(fact)}, {'persisted' if persisted(fact) else 'not persisted'}",
        known={"files": (path,), "settings": (place,)},
    )
