"""Steps for apt repositories."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from swarm.guest.engine.step import Step
from swarm.guest.kinds.parts import content_put, fields, sha256
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Repository", "apt_repository", "fingerprints"]

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

    def sources(self, system: str) -> str:
        """Return the file that adds it, in deb822 form. `system` is 'ID CODENAME ARCHITECTURE' of the guest."""
        name, codename, architecture, *_ = [*system.split(" "), "", ""]
        lines = {
            "Types": "deb",
            "URIs": _filled(self.uri, name, codename),
            "Suites": _filled(self.suite, name, codename),
            "Components": self.components,
            "Architectures": architecture,
            "Signed-By": self.key_path,
        }
        return "".join(f"{key}: {value}\n" for key, value in lines.items() if value or key != "Components")


def _filled(text: str, name: str, codename: str) -> str:
    """Return `text` with {id} and {codename} filled in. str.format would also obey what else braces can mean."""
    return text.replace("{id}", name).replace("{codename}", codename)


def apt_repository(repository: Repository, *, after: tuple[str, ...] = ()) -> Step:
    """Return a step for a repository in deb822 form whose key is checked by its fingerprint before anything is written.

    The key file may hold only that key. If the repository then delivers no lists that it signed, its files are removed.
    """

    def refuse(fact: str) -> str | None:
        return _refusal(repository, fields(fact, " "))

    def apply(fact: str) -> str | None:
        known = fields(fact, " ")
        pins = sha256(repository.pins) if repository.pins else ""
        if (
            known.get("key")
            and known["pin"] == pins
            and known["sources"] == sha256(repository.sources(known["os"]))
        ):
            return None
        return _addition(repository, known)

    return Step(
        subject=f"apt repository {repository.name}",
        probe=_probe(repository),
        wanted=f"{repository.uri}, signed by {repository.fingerprint[-16:]}",
        apply=apply,
        after=after,
        refuse=refuse,
        shown=lambda fact: "there, but different" if fields(fact, " ").get("key") else None,
    )


def fingerprints(keyring: bytes) -> set[str]:
    """Return the fingerprints, in lower case, of all keys in an OpenPGP keyring, armored or not. Unreadable: none."""
    from pysequoia import Cert

    try:
        return {cert.fingerprint.lower() for cert in Cert.split_bytes(keyring)}
    except RuntimeError:
        return set()


def _probe(repository: Repository) -> str:
    return f"""
. /etc/os-release
echo "os $ID ${{VERSION_CODENAME-}} $(dpkg --print-architecture)"
echo "sources $(sha256sum <{quote(repository.list_path)} | cut -d' ' -f1)"
echo "pin $(sha256sum <{quote(repository.pin_path)} | cut -d' ' -f1)"
key_fact {quote(repository.key_path, repository.key_url)}
"""


def _key(known: Mapping[str, str]) -> bytes:
    """The keyring that the guest has, or else the one that it was offered."""
    try:
        return base64.b64decode(known.get("key") or known.get("offered", ""), validate=True)
    except binascii.Error:
        return b""


def _refusal(repository: Repository, known: Mapping[str, str]) -> str | None:
    if "failed" in known:
        what = f"the key of the {repository.name} repository cannot be fetched from {repository.key_url}"
        return f"{what}: {known['failed']}"
    found = fingerprints(_key(known))
    if found == {repository.print}:
        return None
    where = repository.key_path if known.get("key") else repository.key_url
    shown = ", ".join(sorted(found)).upper() or "no readable key"
    expected = f"expected the fingerprint {repository.print.upper()}, found {shown}"
    return f"{where} does not hold exactly the key of the {repository.name} repository: {expected}"


def _addition(repository: Repository, known: Mapping[str, str]) -> str:
    """Shell that writes the files, and fetches the lists."""
    encoded = base64.b64encode(_key(known)).decode()
    undo = f"rm -f -- {quote(repository.list_path, repository.pin_path, repository.key_path)}"
    lines = [
        f"mkdir -p -m 755 {_KEYRINGS}",
        f"trap {quote(undo)} EXIT",
        f"printf '%s' {quote(encoded)} | base64 -d | put {quote(repository.key_path)} 644 root root",
    ]
    if repository.pinned:
        lines.append(content_put(repository.pin_path, repository.pins, "644"))
    lines += [
        content_put(repository.list_path, repository.sources(known["os"]), "644"),
        f"apt update -o Dir::Etc::sourcelist={repository.list_path} {_ONLY}",
        "trap - EXIT",
    ]
    return "\n".join(lines)
