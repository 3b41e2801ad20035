"""Steps for certificate authorities beyond the distribution's own, such as that of a company's proxy."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import Refused
from swarm.guest.engine.probe import BUNDLE, PRIVATE_AUTHORITIES, Step
from swarm.guest.kinds.basic import content_put, line
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.inventory.inside import InstallSettings

__all__ = ["authorities", "certificates"]

_THIS_MACHINE = Path(
    "/usr/local/share/ca-certificates"
)  # where Debian and Ubuntu keep what an administrator added
_FOLDER = str(_THIS_MACHINE)  # the same in the guest


def certificates(settings: InstallSettings) -> dict[str, str]:
    """Return the certificates that the settings name, in PEM form, by a name made from their content.

    Raise Refused if a file can't be read, or holds no certificate.
    """
    files = []
    for path in settings.ca_certificates:
        files += sorted(_THIS_MACHINE.rglob("*.crt")) if path == Path("machine") else [path.expanduser()]
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
            "expected PEM: text with -----BEGIN CERTIFICATE----- in it",
        ) from None


def authorities(wanted: dict[str, str]) -> list[Step]:
    """Return the steps after which the guest trusts the certificates of `wanted` (PEM by name), and no earlier ones of swarm's.

    They come before everything else, since the package sources may be behind them. Node goes by a list of its own, so it is told.
    """

    def apply(fact: str) -> str | None:
        there = dict(row.split(" ", 1) for row in fact.splitlines())
        stale = [f"{_FOLDER}/{name}.crt" for name in there if name not in wanted]
        missing = [
            name
            for name, pem in wanted.items()
            if there.get(name) != f"{hashlib.sha256(pem.encode()).hexdigest()} trusted"
        ]
        if not stale and not missing:
            return None
        script = [f"rm -f -- {quote(*stale)}"] if stale else []
        script += [content_put(f"{_FOLDER}/{name}.crt", wanted[name], "644") for name in missing]
        # A guest without the program gets it with the package ca-certificates, whose own set-up then reads the folder.
        return "\n".join(
            [*script, "if command -v update-ca-certificates >/dev/null; then update-ca-certificates; fi"]
        )

    steps = [
        Step(
            "certificate authorities",
            f"authorities_fact {PRIVATE_AUTHORITIES}",
            f"{len(wanted)} of the host file",
            apply,
            shown=lambda fact: f"{len(fact.splitlines())} there" if fact else None,
        )
    ]
    if wanted:
        steps.append(line("/etc/environment", f"NODE_EXTRA_CA_CERTS={BUNDLE}", "^NODE_EXTRA_CA_CERTS="))
    return steps
