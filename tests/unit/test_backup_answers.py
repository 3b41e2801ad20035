"""What a guest answers to the programs of backup and restore, if it is not what they print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from swarm.backup.answers import read_scan
from swarm.backup.snapshot import Conversation, Source
from swarm.errors import CommandFailed, VerificationFailed

if TYPE_CHECKING:
    from swarm.ssh.link import Link

_SIGNATURE = [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "answer",
    [
        ["file", "file", float("inf"), "agent", "agent", 1, "", ""],
        {"users": 5, "groups": [], "group": "agent"},
        {"users": [], "groups": None, "group": "agent"},
        {"users": []},
    ],
)
def test_an_odd_scan_is_one_error(answer: list[Any] | dict[str, Any]) -> None:
    """A scan with a number that is none, or without lists of accounts, is malformed."""
    with pytest.raises(VerificationFailed, match="zap: received a malformed answer from the guest"):
        read_scan("zap", [answer])


@pytest.mark.parametrize(
    "answer",
    [
        {"database": "a\ud800.sqlite", "signature": _SIGNATURE},
        {"others": [["a\ud800", "root", "root"]]},
        {"begin": True, "staging": "/home/\ud800"},
    ],
)
def test_a_name_that_no_file_has_is_one_error(answer: dict[str, Any]) -> None:
    """Half a surrogate pair, which JSON can hold and no name of a file, makes the survey malformed."""
    conversation = Conversation(Source(cast("Link", None), "zap", None, "agent", "/state"))
    with pytest.raises(CommandFailed, match="zap: received a malformed answer"):
        conversation.take(json.dumps(answer).encode())


def test_a_name_that_is_not_utf_8_is_accepted() -> None:
    """Bytes of a name that are not UTF-8 arrive as lone surrogates too, and are a name."""
    conversation = Conversation(Source(cast("Link", None), "zap", None, "agent", "/state"))
    conversation.take(json.dumps({"database": "a\udcff.sqlite", "signature": _SIGNATURE}).encode())
