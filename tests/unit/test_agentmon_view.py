"""What a person sees of an event, and the notes about gaps and repeats."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.agentmon.envelope import Event, parse
from swarm.agentmon.view import HEADER, Watch, line, summary
from tests.agentmon_events import event


def made(**fields: Any) -> Event:
    """Return one parsed event."""
    return parse(json.dumps(event(**fields)).encode())[0]


def test_a_line_shows_what_matters() -> None:
    """Time, host, type, the ids and what happened stand under the header's columns."""
    payload = {
        "session": "sha256:0123456789abcdef",
        "run": "run-1234567",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.usage.input_tokens": 1200,
        "gen_ai.usage.output_tokens": 40,
        "openclaw.duration_ms": 1532,
    }
    shown = line(made(payload=payload))
    assert shown == (
        "10:11:12.345  zap             span.end         01234567  run-1234  gpt-5-mini tokens 1200→40 1.5 s"
    )
    assert shown.index("gpt-5") == HEADER.index("what")


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        ({"gen_ai.tool.name": "exec", "openclaw.duration_ms": 12}, "exec 12 ms"),
        ({"attributes": {"gen_ai.tool.name": "exec", "openclaw.outcome": "error"}}, "exec error"),
        ({"usage": {"input_tokens": 5}}, "tokens 5→?"),
        ({"usage": {"input_tokens": True}}, ""),
        ({"openclaw.duration_ms": "soon"}, ""),
        ({"openclaw.duration_ms": 1e300}, ""),
        ({"openclaw.duration_ms": float("1e14")}, "1666666666 min 40 s"),
    ],
)
def test_values_are_found_where_they_stand(payload: dict[str, Any], what: str) -> None:
    """Values are shown from the payload and from its objects. What has another type is left out."""
    assert line(made(payload=payload)).partition("span.end")[2].strip() == what


@given(
    st.dictionaries(
        st.sampled_from(
            ["session", "run", "model", "tool", "gen_ai.tool.name", "duration_ms", "status", "usage"]
        ),
        st.none()
        | st.text()
        | st.integers()
        | st.floats()
        | st.dictionaries(st.just("input"), st.integers()),
    ),
    st.text(min_size=1),
)
def test_a_line_is_one_harmless_line(payload: dict[str, Any], client: str) -> None:
    """Whatever an event holds, its line has no control character and is bounded."""
    whole = made(client_id="x")
    shown = line(Event(**{**vars(whole), "payload": payload, "client_id": client}))
    assert shown.isprintable()
    assert len(shown) < 1500


def test_a_gap_is_noted_for_each_boot() -> None:
    """A jump in seq is noted with the missing numbers. Another boot or another host starts its own count."""
    watch = Watch()
    assert watch.see(made(seq=1, payload={"boot": "a"})) == []
    assert watch.see(made(seq=2, payload={"boot": "a"})) == []
    assert watch.see(made(seq=9, payload={"boot": "b"})) == []
    assert watch.see(made(seq=9, client_id="other", payload={"boot": "a"})) == []
    assert watch.see(made(seq=5, payload={"boot": "a"})) == ["gap: 2 events missing (seq 3 to 4)"]
    assert watch.see(made(seq=4, payload={"boot": "a"})) == ["late: seq 4 after 5"]
    assert watch.see(made(seq=6, payload={"boot": "a"})) == []
    assert summary(watch) == "7 events from 2 hosts, 1 missing"


def test_a_repeat_is_noted_and_not_counted() -> None:
    """The same id twice is one event. The repeat does not count as a gap or as late."""
    watch = Watch()
    assert watch.see(made(id="a", seq=1)) == []
    assert watch.see(made(id="a", seq=1)) == ["repeat: a has arrived before"]
    assert watch.see(made(id="b", seq=2)) == []
    assert summary(watch) == "2 events from 1 host, 1 repeated"


def test_events_without_seq_have_no_gaps() -> None:
    """The number is optional, and without it nothing is said about gaps."""
    watch = Watch()
    assert [watch.see(made()) for _ in range(3)] == [[], [], []]
    assert summary(watch) == "3 events from 1 host"


def test_the_greatest_numbers_of_a_sender_stay_readable() -> None:
    """Two senders that number their events beyond all bounds neither fill the screen nor end the summary."""
    watch, notes = Watch(), []
    for boot in ("a", "b"):
        for seq in (1, int("9" * 4300)):
            notes += watch.see(made(id=f"{boot}{seq % 97}", seq=seq, payload={"boot": boot}))
    assert all(len(note) < 200 for note in notes)
    assert len(summary(watch)) < 200
