"""The images that a host file can name: published cloud images, and images built from this machine's packages."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from swarm.errors import ImageError, SwarmError
from swarm.images import recipe

__all__ = ["BUILT", "PUBLISHED", "Entry", "entries", "entry"]

BUILT = "built"


@dataclass(frozen=True)
class Entry:
    """An available image. A published one has the URLs of the qcow2 file and of the checksum file."""

    name: str
    kind: Literal["published", "built"]
    about: str
    url: str = ""
    checksums: str = ""
    algorithm: Literal["sha256", "sha512"] = "sha512"


# Debian's variant "generic", not "genericcloud": the cloud kernel has neither AHCI nor the i6300esb watchdog.
PUBLISHED = (
    Entry(
        "ubuntu-24.04",
        "published",
        "Ubuntu 24.04 LTS (Noble), Canonical's cloud image",
        "https://cloud-images.ubuntu.com/noble/current/noble-server-cloudimg-amd64.img",
        "https://cloud-images.ubuntu.com/noble/current/SHA256SUMS",
        "sha256",
    ),
    Entry(
        "debian-12",
        "published",
        "Debian 12 (Bookworm), Debian's generic cloud image",
        "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-generic-amd64.qcow2",
        "https://cloud.debian.org/images/cloud/bookworm/latest/SHA512SUMS",
    ),
    Entry(
        "debian-13",
        "published",
        "Debian 13 (Trixie), Debian's generic cloud image",
        "https://cloud.debian.org/images/cloud/trixie/latest/debian-13-generic-amd64.qcow2",
        "https://cloud.debian.org/images/cloud/trixie/latest/SHA512SUMS",
    ),
)


def entries() -> list[Entry]:
    """Return the catalog: the images that a host file can name on this machine."""
    try:
        own = recipe.this_machine()
    except SwarmError:
        return list(PUBLISHED)
    about = f"built here from the packages of {own.distribution.capitalize()} {own.version}"
    return [
        *PUBLISHED,
        Entry(BUILT, "built", about),
        Entry(own.name, "built", f"the full name of {BUILT}"),
    ]


def entry(name: str) -> Entry:
    """Return the entry called `name`. Raise ImageError, with the closest name as a hint, if it is unknown."""
    known = {each.name: each for each in entries()}
    if name in known:
        return known[name]
    if name == BUILT:
        recipe.this_machine()  # raises the reason
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    raise ImageError(
        f"there is no image {name!r} in the catalog",
        f"did you mean {near[0]}?" if near else f"known images: {', '.join(known)}",
    )
