"""The steps of step_cases.py that are about apt, with the facts that matter to them."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.repositories import Repository, apt_key, apt_repository

if TYPE_CHECKING:
    from swarm.guest.engine.step import Step

__all__ = ["APT_CASES", "GOOD_KEY", "total"]

A = ("earlier",)


def total(content: str) -> str:
    """The checksum of a file's content."""
    return hashlib.sha256(content.encode()).hexdigest()


def other(content: str) -> str:
    """A file of apt's sources as a fact."""
    return b64encode(f"{content}\n".encode()).decode()


# A key that was made for these tests.
PGP = Path(__file__).parent / "unit" / "test_guest_kinds.pgp"
VENDOR = Repository(
    "vendor",
    "https://pkgs.example.com/{id}",
    "{codename}",
    "main",
    "https://pkgs.example.com/key.asc",
    "BFB6 D5D6 FB93 E784 C3F2 BEBB 40FA F1DC 4AB7 B401",
    ("tool", "other"),
)
PLAIN = Repository("plain", "https://x.example.com/", "./", "", "https://x.example.com/k", VENDOR.fingerprint)
GOOD_KEY = b64encode(PGP.read_bytes()).decode()
OS, LATER = (f"os debian bookworm amd64\nnow {now}" for now in (1_700_000_000, 1_900_000_000))
SOURCES = total(VENDOR.sources("debian bookworm amd64"))
WHOLE = f"sources {SOURCES}\npin {total(VENDOR.pins)}\nkey {GOOD_KEY}"

APT_CASES: dict[str, tuple[Step, tuple[str, ...]]] = {
    "packages": (
        packages("some", ("a", "b|c", "d|"), after=A),
        (
            "installed a 1\ninstalled b 1",
            "installed a 1\nlists\ncandidate b 2\ncandidate c 2",
            "lists\ncandidate a 1\ncandidate c 2\ncandidate d 3",
            "installed a 1\ninstalled c 1",
            "installed a 1\nlists\ncandidate b 1\ncandidate d 1",
            "installed a 1",
            "lists\ncandidate b 1",
            "lists",
            "installed a\ninstalled b 1 extra\nlists",
            "installed a 1\nlists\nbroken E: Malformed entry 1 in list file /etc/apt/sources.list.d/x.list (Suite)",
            "installed a 1\nlists\nbroken ",
            "installed a 1\ninstalled b 1\nbroken E: Malformed",
        ),
    ),
    "packages of a repository": (
        packages("some", ("a",), from_repository=True),
        ("lists", "", "broken E: Conflict"),
    ),
    "packages from a version on": (
        packages("some", ("a", "b"), at_least={"a": "2.1", "b": "3"}),
        (
            "installed a 2.1\ninstalled b 3",
            "installed a 2.0\ninstalled b 3\nold a 2.0\nlists\ncandidate a 2.2\ncandidate b 3",
            "lists\ncandidate a 2.0\ncandidate b 2\nlow a 2.0\nlow b 2",
        ),
    ),
    "packages upgraded": (
        packages("some", ("a", "b|c"), upgrade=True),
        (
            "installed a 1\ninstalled b 1\nlists\ncandidate a 1\ncandidate b 1",
            "installed a 1\ninstalled b 1\nlists\ncandidate a 2\ncandidate b 1",
            "installed a 1\ninstalled b 1",
        ),
    ),
    "repository": (
        apt_repository(VENDOR, after=A),
        (
            f"{OS}\nsources \npin \nkey \noffered {GOOD_KEY}",
            f"{OS}\nsources 0\npin 0\nkey {GOOD_KEY}",
            f"{OS}\n{WHOLE}",
            f"{OS}\nsources {SOURCES}\npin 0\nkey {GOOD_KEY}",
            f"{OS}\nsources 0\npin {total(VENDOR.pins)}\nkey {GOOD_KEY}",
            f"{OS}\nsources \npin \nkey \nfailed E: no route",
            f"{OS}\nsources \npin \nkey \noffered AAAA",
            f"{OS}\nsources \npin \nkey %%%",
            # The key is good until November 2029.
            f"{LATER}\nsources \npin \nkey \noffered {GOOD_KEY}",
            f"{LATER}\n{WHOLE}",
            # Sources of others.
            f"{OS}\nother /etc/apt/sources.list.d/other.list {other('deb https://pkgs.example.com/x y main')}\n{WHOLE}",
            f"{OS}\nother /etc/apt/sources.list {other('deb https://pkgs.example.com/debian bookworm main')}\n{WHOLE}",
            f"{OS}\nother /etc/apt/sources.list {other('deb https://pkgs.example.com/debian bookworm test')}\n{WHOLE}",
        ),
    ),
    "repository without pins": (
        apt_repository(PLAIN),
        (
            f"os debian  amd64\nsources {total(PLAIN.sources('debian  amd64'))}\npin \nkey {GOOD_KEY}",
            f"os debian\nnow 1700000000\nsources \npin \nkey \noffered {GOOD_KEY}",
        ),
    ),
    "key of a repository": (
        apt_key(VENDOR, after=A),
        (
            f"now 1700000000\nkey {GOOD_KEY}",
            f"now 1900000000\nkey {GOOD_KEY}",
            "now 1900000000\nkey ",
            "now 1900000000\nkey AAAA",
        ),
    ),
}
