"""apt's sources that others have written, as tables: which entries are disabled, and which keys are too old."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from swarm.errors import CommandFailed
from swarm.guest.engine.difference import plan
from swarm.guest.kinds.keyrings import expired
from swarm.guest.kinds.sources import Archive, Rival, without
from tests.step_cases import CASES

ARCHIVE = Archive("https://pkgs.example.com/debian", "bookworm", frozenset({"stable"}))
LIST, DEB822 = "/etc/apt/sources.list.d/x.list", "/etc/apt/sources.list.d/x.sources"
OURS = "deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://pkgs.example.com/debian bookworm stable"
STANZA = "Types: deb\nURIs: https://pkgs.example.com/debian/\nSuites: bookworm\nComponents: stable\n"


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (f"{OURS}\n", f"# note: {OURS}\n"),
        (f"# mine\n{OURS} # it\ndeb http://x y z\n", f"# mine\n# note: {OURS} # it\ndeb http://x y z\n"),
        (
            "deb-src https://pkgs.example.com/debian/ bookworm",
            "# note: deb-src https://pkgs.example.com/debian/ bookworm",
        ),
        (f"# {OURS}\n", f"# {OURS}\n"),
        (OURS.replace(" bookworm", " trixie"), OURS.replace(" bookworm", " trixie")),
        (OURS.replace("/debian", "/ubuntu"), OURS.replace("/debian", "/ubuntu")),
        ("deb\n", "deb\n"),
    ],
)
def test_lines(content: str, wanted: str) -> None:
    """A line for the same URI and suite is disabled, whatever its key. All others stay; a second time does nothing."""
    assert without(LIST, content, ARCHIVE, "note") == wanted
    assert without(LIST, wanted, ARCHIVE, "note") == wanted


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (STANZA, f"# note:\nEnabled: no\n{STANZA}"),
        (f"Enabled: yes\n{STANZA}", f"# note:\nEnabled: no\n{STANZA}"),
        (
            f"{STANZA}\nTypes: deb\nURIs: http://x\n",
            f"# note:\nEnabled: no\n{STANZA}\nTypes: deb\nURIs: http://x\n",
        ),
        (
            f"URIs: http://x\n\n{STANZA}Signed-By:\n a\n .\n b\n",
            f"URIs: http://x\n\n# note:\nEnabled: no\n{STANZA}Signed-By:\n a\n .\n b\n",
        ),
        (f"{STANZA}enabled: No\n", f"{STANZA}enabled: No\n"),
        (STANZA.replace("bookworm", "trixie"), STANZA.replace("bookworm", "trixie")),
        (STANZA.replace(": ", ":\n "), "# note:\nEnabled: no\n" + STANZA.replace(": ", ":\n ")),
        ("", ""),
        ("nonsense\n", "nonsense\n"),
    ],
)
def test_stanzas(content: str, wanted: str) -> None:
    """A stanza for the same URI and suite is disabled. All others stay, and a second time nothing changes."""
    assert without(DEB822, content, ARCHIVE, "note") == wanted
    assert without(DEB822, wanted, ARCHIVE, "note") == wanted


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        (LIST, f"{OURS} test\n", f"in {LIST} with the components test"),
        (DEB822, STANZA.replace("stable", "stable test"), f"in {DEB822} with the components test"),
        (
            DEB822,
            STANZA.replace("bookworm", "bookworm trixie"),
            f"in one entry of {DEB822} with other URIs or suites",
        ),
    ],
)
def test_entries_with_more(path: str, content: str, reason: str) -> None:
    """An entry that also has something else is named, not disabled."""
    with pytest.raises(Rival, match=f"^{reason}$"):
        without(path, content, ARCHIVE, "note")


def test_files_that_are_not_sources() -> None:
    """Only apt's own files are written, whatever paths a guest names."""
    step, facts = CASES["repository"]
    fact = next(fact for fact in facts if "\nother /etc/apt/sources.list " in fact)
    assert plan("zap", [step], {step.subject: fact})
    for path in ("/etc/passwd", "/etc/apt/sources.list.d/../../passwd", "/etc/apt/sources.list.d/a/b"):
        with pytest.raises(CommandFailed, match="cannot read the guest's answer: ValueError"):
            plan("zap", [step], {step.subject: fact.replace("/etc/apt/sources.list", path)})


KEY = Path(__file__).with_name("test_guest_kinds.pgp").read_bytes()
END = datetime(2029, 11, 21, 10, 24, 34, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "now", "wanted"),
    [
        (KEY, int(END.timestamp()) - 1, None),
        (KEY, int(END.timestamp()), END),
        (b"", 2_000_000_000, None),
        (b"junk", 2_000_000_000, None),
    ],
)
def test_expired_keys(key: bytes, now: int, wanted: datetime | None) -> None:
    """A key has expired from the second on that it names. What is no key does not expire."""
    assert expired(key, now) == wanted
