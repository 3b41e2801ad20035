"""Steps for apt repositories."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from swarm.guest.engine.step import Step
from swarm.guest.kinds.keyrings import expired, fingerprints
from swarm.guest.kinds.parts import content_put, fields, sha256
from swarm.guest.kinds.sources import Archive, Rival, without
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Repository", "apt_key", "apt_repository"]

# What apt reads besides swarm's own file. apt ignores files with any other name.
_SOURCES = re.compile(r"/etc/apt/sources\.list(\.d/[A-Za-z0-9_.-]+)?")
_KEYRINGS = "/etc/apt/keyrings"
# 990 beats the 500 of a distribution's packages, and stays below 1000, so apt never downgrades (apt_preferences(5)).
_PRIORITY = 990
# Only this list is fetched, and any error fails.
_ONLY = "-o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any"


@dataclass(frozen=True)
class Repository:
    """An apt repository. `suite` and `uri` may hold {id} and {codename} of the guest's system."""

    name: str
    uri: str
    suite: str
    components: str
    key_url: str
    fingerprint: str
    pinned: tuple[str, ...] = ()  # packages that must come from here even if the distribution has newer ones

    @property
    def key_path(self) -> str:
        """The file of its key."""
        return f"{_KEYRINGS}/{self.name}.asc"

    @property
    def list_path(self) -> str:
        """The file that adds it to apt's sources."""
        return f"/etc/apt/sources.list.d/{self.name}.sources"

    @property
    def pin_path(self) -> str:
        """The file of its priority."""
        return f"/etc/apt/preferences.d/{self.name}"

    @property
    def print(self) -> str:
        """The fingerprint of its key, as hexadecimal digits in lower case."""
        return self.fingerprint.replace(" ", "").lower()

    @property
    def pins(self) -> str:
        """The content of the file of its priority."""
        host = urlsplit(self.uri).hostname
        return "\n".join(
            f"Package: {name}\nPin: origin {host}\nPin-Priority: {_PRIORITY}\n" for name in self.pinned
        )

    def archive(self, system: str) -> Archive:
        """Return what makes another entry one for the same repository. `system` is as in sources()."""
        name, codename, *_ = [*system.split(" "), ""]
        components = frozenset(self.components.split())
        return Archive(_filled(self.uri, name, codename), _filled(self.suite, name, codename), components)

    def sources(self, system: str) -> str:
        """Return the file that adds it, in deb822 form. `system` is 'ID CODENAME ARCHITECTURE' of the guest."""
        archive, architecture = self.archive(system), [*system.split(" "), "", ""][2]
        lines = {
            "Types": "deb",
            "URIs": archive.uri,
            "Suites": archive.suite,
            "Components": self.components,
            "Architectures": architecture,
            "Signed-By": self.key_path,
        }
        return "".join(f"{key}: {value}\n" for key, value in lines.items() if value or key != "Components")


def _filled(text: str, name: str, codename: str) -> str:
    """Return `text` with {id} and {codename} filled in. str.format would also obey what else braces can mean."""
    return text.replace("{id}", name).replace("{codename}", codename)


def apt_key(repository: Repository, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step that removes the repository's key once it has expired. apt_repository() then fetches it again.

    A vendor renews a key under the same fingerprint, so only its date tells that the guest's copy is an old one.
    """

    def end(fact: str) -> datetime | None:
        known = fields(fact, " ")
        return expired(_key(known), int(known["now"])) if known.get("key") else None

    return Step(
        subject=f"apt key {repository.name}",
        probe=f'now_fact\necho "key $(base64 -w0 -- {quote(repository.key_path)})"',
        wanted="not expired",
        apply=lambda fact: f"rm -f -- {quote(repository.key_path)}" if end(fact) else None,
        after=after,
        shown=lambda fact: f"expired on {when:%Y-%m-%d}" if (when := end(fact)) else "there",
    )


def apt_repository(
    repository: Repository, *, after: tuple[str, ...] = (), reacts_to: tuple[str, ...] = ()
) -> Step:
    """Return a step for a repository in deb822 form whose key is checked by its fingerprint before anything is written.

    The key file may hold only that key. Entries of others for the same repository are disabled, since apt stops at two
    with different keys. If the repository then delivers no lists that it signed, or apt cannot read its sources any
    more, all files become what they were.
    """

    def apply(fact: str) -> str | None:
        known = fields(fact, " ")
        pins = sha256(repository.pins) if repository.pins else ""
        others = _disabled(repository, fact)
        if (
            known.get("key")
            and known["pin"] == pins
            and known["sources"] == sha256(repository.sources(known["os"]))
            and not others
        ):
            return None
        return _addition(repository, known, others)

    def shown(fact: str) -> str | None:
        if others := _disabled(repository, fact):
            return f"also in {', '.join(others)}"
        return "there, but different" if fields(fact, " ").get("key") else None

    return Step(
        subject=f"apt repository {repository.name}",
        probe=_probe(repository),
        slow=True,
        wanted=f"{repository.uri}, signed by {repository.fingerprint[-16:]}",
        apply=apply,
        after=after,
        reacts_to=reacts_to,
        refuse=lambda fact: _refusal(repository, fact),
        shown=shown,
    )


def _probe(repository: Repository) -> str:
    host = urlsplit(repository.uri).hostname or repository.uri
    return f"""
. /etc/os-release
echo "os $ID ${{VERSION_CODENAME-}} $(dpkg --print-architecture)"
now_fact
echo "sources $(sha256sum <{quote(repository.list_path)} | cut -d' ' -f1)"
echo "pin $(sha256sum <{quote(repository.pin_path)} | cut -d' ' -f1)"
sources_fact {quote(host, repository.list_path)}
key_fact {quote(repository.key_path, repository.key_url)}
"""


def _key(known: Mapping[str, str]) -> bytes:
    """The keyring that the guest has, or else the one that it was offered."""
    try:
        return base64.b64decode(known.get("key") or known.get("offered", ""), validate=True)
    except binascii.Error:
        return b""


def _disabled(repository: Repository, fact: str) -> dict[str, str]:
    """The new content, by path, of each file with another entry for the repository. Raise Rival as without()."""
    archive = repository.archive(fields(fact, " ")["os"])
    note = f"Disabled by swarm, which has this repository in {repository.list_path}"
    found = {}
    for row in fact.splitlines():
        if row.startswith("other "):
            _, path, encoded = row.split(" ")
            if not _SOURCES.fullmatch(path):
                raise ValueError(path)
            old = base64.b64decode(encoded, validate=True).decode("utf-8", "surrogateescape")
            if (new := without(path, old, archive, note)) != old:
                found[path] = new
    return found


def _refusal(repository: Repository, fact: str) -> str | None:
    known = fields(fact, " ")
    if "failed" in known:
        what = f"the key of the {repository.name} repository cannot be fetched from {repository.key_url}"
        return f"{what}: {known['failed']}"
    found = fingerprints(_key(known))
    where = repository.key_path if known.get("key") else repository.key_url
    if found != {repository.print}:
        shown = ", ".join(sorted(found)).upper() or "no readable key"
        expected = f"expected the fingerprint {repository.print.upper()}, found {shown}"
        return f"{where} does not hold exactly the key of the {repository.name} repository: {expected}"
    # An expired key of the guest's own is apt_key()'s work.
    if not known.get("key") and (when := expired(_key(known), int(known["now"]))):
        return f"{where} has an expired key of the {repository.name} repository: it was good until {when:%Y-%m-%d}"
    try:
        _disabled(repository, fact)
    except Rival as error:
        return f"the guest's apt sources have the {repository.name} repository already, {error}; remove that entry"
    return None


def _addition(repository: Repository, known: Mapping[str, str], others: Mapping[str, str]) -> str:
    """Shell that writes the files, and fetches the lists."""
    encoded = base64.b64encode(_key(known)).decode()
    files = quote(repository.list_path, repository.pin_path, repository.key_path, *others)
    undo = f'put_back "$kept" {files}'
    lines = [
        f"mkdir -p -m 755 {_KEYRINGS}",
        "kept=$(mktemp -d)",
        f'keep_files "$kept" {files}',
        f"trap {quote(undo)} EXIT",
        f"printf '%s' {quote(encoded)} | base64 -d | put {quote(repository.key_path)} 644 root root",
    ]
    if repository.pinned:
        lines.append(content_put(repository.pin_path, repository.pins, "644"))
    lines += [content_put(path, content, "644") for path, content in others.items()]
    lines += [
        content_put(repository.list_path, repository.sources(known["os"]), "644"),
        f"apt update -o Dir::Etc::sourcelist={repository.list_path} {_ONLY}",
        "apt indextargets >/dev/null",  # reads the sources of all files, ours and others, and stops at a conflict
        "trap - EXIT",
        'rm -rf -- "$kept"',
    ]
    return "\n".join(lines)
