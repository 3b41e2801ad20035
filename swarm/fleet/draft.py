"""The text of a new host file: a copy of another one with its own names and addresses, or a template. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swarm.inventory import EMBEDDED, BackupSettings
from swarm.inventory.roundtrip import changed
from swarm.inventory.uri import remote
from swarm.templates import render

if TYPE_CHECKING:
    from swarm.inventory import Host

__all__ = ["SCHEMA", "Own", "copied", "from_template", "renamed"]

SCHEMA = "# yaml-language-server: $schema=schema.json\n"
_MADE = "# Made by `./inv new`"  # of which one is enough in the copy of a copy


@dataclass(frozen=True)
class Own:
    """What every host has for itself."""

    name: str
    uri: str
    domain: str
    hostname: str
    disk_path: str
    mac: str
    ip: str


def renamed(text: str, old: str, new: str) -> str:
    """Return `text` with the word `old` replaced. Part of a longer word, such as zap in zap-2, is no such word."""
    return _word(old).sub(lambda _: new, text)


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(name)}(?![A-Za-z0-9_-])")


def from_template(own: Own) -> str:
    """Return a host file like the demo's, with a comment for what is not obvious."""

    def change(document: Any) -> None:  # noqa: ANN401 - ruamel.yaml's own type
        for key in ("domain", "hostname"):
            _set(document["vm"], key, getattr(own, key))  # in quotes if it looks like a number, or like null

    return changed(SCHEMA + render("host.yaml.j2", embedded=own.uri == EMBEDDED, **vars(own)), change)


def copied(text: str, base: Host, own: Own) -> tuple[str, list[str]]:
    """Return the host file `text` of `base` with the values of `own`, and notes about what a person should check.

    Sections, order and comments stay. What only one host may have is renamed or left out.
    """
    notes: list[str] = []

    def change(document: Any) -> None:  # noqa: ANN401 - ruamel.yaml's own type
        _hypervisor(document, base, own, notes)
        for key in ("domain", "hostname", "disk_path", "mac", "ip"):
            _set(document["vm"], key, getattr(own, key))
        share = document["vm"].get("virtiofs") or {}
        if share.get("source") == base.name:  # the base's own folder among swarm's shares
            _set(share, "source", own.name)
        if "vm_name" in (document.get("agentmon") or ()):
            was = str(document["agentmon"]["vm_name"])
            new = renamed(was, base.name, own.name)
            _set(document["agentmon"], "vm_name", new if new != was else own.name)
        _backup(document.get("backup") or {}, base, own, notes)

    made = changed(text, change)
    body = re.sub(rf"^{_MADE}.*\n", "", made.removeprefix(SCHEMA))
    head = f"{SCHEMA}{_MADE}, with the sections and comments of {base.name}.yaml.\n"
    lines = [
        str(number + 3) for number, line in enumerate(body.splitlines()) if _word(base.name).search(line)
    ]
    if lines:
        notes.append(f"check what still names {base.name}: line {', '.join(lines)} of {own.name}.yaml")
    return head + body, notes


def _hypervisor(document: Any, base: Host, own: Own, notes: list[str]) -> None:  # noqa: ANN401 - as above
    if own.uri == base.hypervisor.uri:
        return
    if not document.get("hypervisor"):
        document.insert(0, "hypervisor", {})
    _set(document["hypervisor"], "uri", own.uri)
    share = document["vm"].get("virtiofs")
    if share and remote(own.uri) and not str(share["source"]).startswith("/"):
        del document["vm"]["virtiofs"]
        notes.append(
            "vm.virtiofs is left out: the hypervisor is another machine, and the path is one of this machine"
        )


def _backup(section: Any, base: Host, own: Own, notes: list[str]) -> None:  # noqa: ANN401 - as above
    """Give the host its own destinations. A dead man's switch of two hosts would not notice that one is dead."""
    if section.pop("ping", None) is not None:
        notes.append("backup.ping is left out: each host needs a switch of its own")
    for index, old in enumerate(section.get("destinations") or ()):
        new = renamed(str(old), base.name, own.name.replace("_", "-").strip("-"))
        if new != old and _accepted(new):
            _set(section["destinations"], index, new)
            notes.append(f"archives go to {new}: make that place before the first backup")


def _accepted(destination: str) -> bool:
    try:
        BackupSettings.model_validate({"destinations": [destination]})
    except ValueError:  # pydantic's ValidationError is one: the name of a bucket has its own rules
        return False
    return True


def _set(section: Any, key: str | int, value: str) -> None:  # noqa: ANN401 - as above
    """Set a value and keep the quotes of the one before."""
    from ruamel.yaml.scalarstring import ScalarString

    old = section[key] if isinstance(key, int) else section.get(key)
    section[key] = type(old)(value) if isinstance(old, ScalarString) else value
