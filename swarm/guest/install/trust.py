"""The steps for certificate authorities beyond the distribution's own, such as that of a company's proxy."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.script import BUNDLE, PRIVATE_AUTHORITIES
from swarm.guest.engine.step import Step
from swarm.guest.kinds.edits import line
from swarm.guest.kinds.parts import content_put
from swarm.paths import expanded
from swarm.templates import render

if TYPE_CHECKING:
    from swarm.inventory.inside import InstallSettings

__all__ = ["authorities", "certificates"]

# Where Debian and Ubuntu keep the certificates that an administrator added: on this computer and in the guest.
_FOLDER = "/usr/local/share/ca-certificates"
_ROW = re.compile(r"(?P<name>swarm-[^\s/]+) (?P<state>[0-9a-f]{64} (un)?trusted)")


def certificates(settings: InstallSettings, local: Path = Path(_FOLDER)) -> dict[str, str]:
    """Return the certificates that the settings name, in PEM form, by a name made from their content.

    `local` holds those that were added to this computer. Raise Refused if a file can't be read or holds no certificate.
    """
    files = []
    for path in settings.ca_certificates:
        files += sorted(local.rglob("*.crt")) if path == Path("machine") else [expanded(path)]
    every = [pem for path in files for pem in _read(path)]
    return {f"swarm-{hashlib.sha256(pem.encode()).hexdigest()[:16]}": pem for pem in every}


def _read(path: Path) -> list[str]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return [
            each.public_bytes(Encoding.PEM).decode()
            for each in x509.load_pem_x509_certificates(path.read_bytes())
        ]
    except OSError as error:
        raise Refused(f"openclaw.ca_certificates: {path} can't be read: {error.strerror}") from None
    except ValueError:
        raise Refused(
            f"openclaw.ca_certificates: {path} holds no certificate",
            "give a file in PEM form, with a line -----BEGIN CERTIFICATE-----",
        ) from None


def authorities(wanted: dict[str, str]) -> list[Step]:
    """Return the steps that make the guest trust the certificates of `wanted` (PEM by name), and no others of swarm's.

    They come first, since the package sources may be behind a proxy that needs them. Node has a list of its own, so
    a variable points it to the system's.
    """
    steps = [
        Step(
            subject="certificate authorities",
            probe=f"authorities_fact {PRIVATE_AUTHORITIES}",
            wanted=f"{len(wanted)} of the host file",
            apply=lambda fact: _script(_read_rows(fact), wanted),
            refuse=_unreadable,
            shown=lambda fact: f"{len(fact.splitlines())} there" if fact else None,
        )
    ]
    if wanted:
        steps.append(line("/etc/environment", f"NODE_EXTRA_CA_CERTS={BUNDLE}", "^NODE_EXTRA_CA_CERTS="))
    return steps


def _unreadable(fact: str) -> str | None:
    """Refuse names that swarm did not make: they would end up in a command that removes files."""
    wrong = next((row for row in fact.splitlines() if not _ROW.fullmatch(row)), None)
    return None if wrong is None else f"the guest's list of certificates can't be read: {wrong[:80]!r}"


def _read_rows(fact: str) -> dict[str, str]:
    """The rows of authorities_fact: checksum and state by name."""
    return {match["name"]: match["state"] for row in fact.splitlines() if (match := _ROW.fullmatch(row))}


def _script(present: dict[str, str], wanted: dict[str, str]) -> str | None:
    """Shell that removes what is not wanted and writes what is missing or not trusted. None if nothing is due."""
    stale = [f"{_FOLDER}/{name}.crt" for name in present if name not in wanted]
    missing = [
        name
        for name, pem in wanted.items()
        if present.get(name) != f"{hashlib.sha256(pem.encode()).hexdigest()} trusted"
    ]
    if not stale and not missing:
        return None
    writes = [content_put(f"{_FOLDER}/{name}.crt", wanted[name], "644") for name in missing]
    return render("guest/authorities.sh.j2", stale=stale, writes=writes)
