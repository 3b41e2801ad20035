"""Manifests and summaries: they read back as written, and tell every difference."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.backup.manifest import Entry, Manifest, Summary, compare, difference, find
from swarm.errors import VerificationFailed

_ENTRIES = (
    Entry("agents", "directory", 0o700, 1, "agent", "agent"),
    Entry("agents/main.sqlite", "file", 0o600, 2, "agent", "agent", 10, "aa"),
    Entry("agents/odd\udcff\n", "file", 0o600, 3, "agent", "agent", 5, "bb"),
    Entry("link", "link", 0o777, 4, "agent", "agent", target="agents"),
)
_MANIFEST = Manifest(
    host="zap",
    created="2026-11-25T03:00:00Z",
    user="agent",
    entries=_ENTRIES,
    databases={"agents/main.sqlite": {"sessions": 3, "transcripts": 72}},
    exclude=("/logs/",),
    versions={"openclaw": "2026.11"},
    notes=("a note",),
)
_SUMMARY = Summary("zap", "2026-11-25T03:00:00Z", 2, 15, 9, "cc", "dd", "age1x", {"swarm": "0.1.0"})


def changed(**values: Any) -> list[Entry]:
    """Return the entries, with values of the database replaced."""
    return [replace(entry, **values) if entry.sha256 == "aa" else entry for entry in _ENTRIES]


def test_a_manifest_reads_back_as_written() -> None:
    """Names that are not UTF-8 and names with newlines survive; the bytes are ASCII."""
    data = _MANIFEST.to_bytes()
    assert data.isascii()
    assert Manifest.from_bytes(data) == _MANIFEST


@given(
    st.lists(st.binary(max_size=300).map(lambda name: name.decode("utf-8", "surrogateescape")), max_size=5)
)
def test_any_name_survives(names: list[str]) -> None:
    """Whatever bytes a name consists of, it reads back as it was."""
    entries = tuple(Entry(name, "file", 0, 0, "", "") for name in names)
    manifest = replace(_MANIFEST, entries=entries)
    assert Manifest.from_bytes(manifest.to_bytes()).entries == entries


def test_a_summary_reads_back_as_written() -> None:
    """A summary survives, and contains no name of a file."""
    assert Summary.from_bytes(_SUMMARY.to_bytes()) == _SUMMARY
    assert b"sqlite" not in _SUMMARY.to_bytes()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"[]", b"null", b"\xff", b"[" * 200_000),
        *(b'{"format": 1}', b'{"format": 1, "fields": [], "entries": 3}'),
        _SUMMARY.to_bytes().replace(b'"files": 2', b'"files": Infinity'),
        _MANIFEST.to_bytes().replace(b'"sessions": 3', b'"sessions": Infinity'),
    ],
)
def test_a_malformed_manifest_is_one_error(data: bytes) -> None:
    """Whatever stands in the file, there is one error and no traceback."""
    with pytest.raises(VerificationFailed, match="malformed"):
        Manifest.from_bytes(data)
    with pytest.raises(VerificationFailed, match="malformed"):
        Summary.from_bytes(data)


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "device"), ("mode", "0600"), ("size", True), ("path", 3), ("sha256", None)]
)
def test_a_malformed_entry_is_one_error(field: str, value: object) -> None:
    """A value of the wrong type, or of an unknown kind, is not accepted."""
    data = json.loads(_MANIFEST.to_bytes())
    data["entries"][1][data["fields"].index(field)] = value
    with pytest.raises(VerificationFailed, match="malformed"):
        Manifest.from_bytes(json.dumps(data).encode())


def test_a_newer_format_says_to_update() -> None:
    """A manifest of a later swarm is not misread."""
    data = _MANIFEST.to_bytes().replace(b'"format": 1', b'"format": 2')
    with pytest.raises(VerificationFailed, match="has format 2") as caught:
        Manifest.from_bytes(data)
    assert caught.value.hint == "update swarm"


def test_equal_trees_have_no_problems() -> None:
    """What matches the manifest, in any order, has no problems."""
    assert compare(_MANIFEST, reversed(_ENTRIES)) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sha256": "ff"}, "the content differs"),
        ({"size": 9}, "size is 9, expected 10"),
        ({"mode": 0o644}, f"mode is {0o644}, expected {0o600}"),
        ({"mtime_ns": 7}, "mtime_ns is 7, expected 2"),
        ({"owner": "root"}, "owner is root, expected agent"),
        ({"kind": "directory"}, "kind is directory, expected file"),
    ],
)
def test_each_difference_is_a_sentence(values: dict[str, object], expected: str) -> None:
    """A file that differs in anything is named with what differs."""
    assert compare(_MANIFEST, changed(**values)) == [f"agents/main.sqlite: {expected}"]


def test_missing_and_additional_members_are_named() -> None:
    """What is missing and what is too much are both problems."""
    found = [*_ENTRIES[1:], Entry("extra", "file", 0, 0, "", "")]
    assert compare(_MANIFEST, found) == ["extra: not in the manifest", "agents: missing"]


def test_a_difference_lists_paths() -> None:
    """Added, removed and changed paths are told apart; a new time alone is no change."""
    entries = (*changed(sha256="ff", mtime_ns=9)[:3], Entry("new", "file", 0, 0, "", ""))
    found = difference(_MANIFEST, replace(_MANIFEST, entries=entries))
    assert (found.added, found.removed, found.changed) == (("new",), ("link",), ("agents/main.sqlite",))
    assert not difference(
        _MANIFEST, replace(_MANIFEST, entries=tuple(replace(e, mtime_ns=9) for e in _ENTRIES))
    )


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("main", ["agents/main.sqlite"]),
        ("agents/*", ["agents/main.sqlite", "agents/odd\udcff\n"]),
        ("none", []),
    ],
)
def test_find_takes_a_part_or_a_pattern(pattern: str, paths: list[str]) -> None:
    """A file is found by a part of its path, or by a pattern of the shell."""
    assert [entry.path for entry in find(_MANIFEST, pattern)] == paths
