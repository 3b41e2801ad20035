"""The envelope of agentmon's events: what is accepted, and which field a refusal names."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.agentmon.envelope import EnvelopeError, Event, Limits, parse
from tests.agentmon_events import event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def problems(value: object) -> tuple[str, ...]:
    """Return the problems of a body that holds this JSON value."""
    with pytest.raises(EnvelopeError) as refused:
        parse(json.dumps(value).encode())
    return refused.value.problems


def changed(path: str, value: object) -> dict[str, Any]:
    """Return a valid event in which the field at `path` has another value."""
    whole: dict[str, Any] = copy.deepcopy(event())
    *parents, last = path.split(".")
    place = whole
    for each in parents:
        place = place[each]
    place[last] = value
    return whole


@pytest.mark.parametrize(
    "kind",
    [
        "session.start",
        "session.end",
        "run.start",
        "run.end",
        "span.start",
        "span.end",
        "error",
        "metric.snapshot",
    ],
)
def test_each_of_the_eight_types_is_accepted(kind: str) -> None:
    """An event of each type is accepted, with what it says about itself."""
    (found,) = parse(json.dumps(event(type=kind, id="e1", seq=7, payload={"a": 1})).encode())
    assert (found.type, found.id, found.seq, found.payload) == (kind, "e1", 7, {"a": 1})
    assert (found.framework, found.client_id, found.host) == ("openclaw", "zap", "zap.lan")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", None),
        ("schema", []),
        ("schema.name", "agentmon"),
        ("schema.version", 2),
        ("schema.version", "1"),
        ("schema.version", True),
        ("event", None),
        ("event", "x"),
        ("event.id", ""),
        ("event.id", 7),
        ("event.type", "tool.start"),
        ("event.type", ["error"]),
        ("event.ts", None),
        ("event.ts", "yesterday"),
        ("event.ts", "2026-09-20T10:11:12"),
        ("event.ts", True),
        ("event.ts", -1),
        ("event.ts", 1e300),
        ("event.source", None),
        ("event.source.framework", ""),
        ("event.source.client_id", None),
        ("event.source.host", 5),
        ("payload", [1]),
    ],
)
def test_a_problem_is_named_by_its_field(path: str, value: object) -> None:
    """One wrong field makes one problem, and it begins with the field's path."""
    (problem,) = problems(changed(path, value))
    assert problem.startswith(f"{path}: expected ")


@pytest.mark.parametrize("value", [None, 1, "x", [[]]])
def test_what_is_no_object_is_no_event(value: object) -> None:
    """In place of an event, any other JSON is refused as such."""
    body, place = (value, "[0].") if isinstance(value, list) else (value, "")
    (problem,) = problems(body)
    assert problem.startswith(f"{place}event: expected an object, found ")


def test_every_problem_is_named() -> None:
    """An event with several wrong fields is refused for all of them at once."""
    assert [each.partition(":")[0] for each in problems({"event": {}})] == [
        "schema",
        "event.id",
        "event.type",
        "event.ts",
        "event.source",
    ]


def test_a_batch_names_the_event() -> None:
    """In a batch, the position of the bad event is part of the field, in an array and in lines."""
    good, bad = json.dumps(event()), json.dumps(changed("event.id", ""))
    for body in (f"[{good},{bad}]", f"{good}\n\n{bad}\n"):
        with pytest.raises(EnvelopeError, match=r"^\[1\]\.event\.id: expected"):
            parse(body.encode())


@pytest.mark.parametrize(
    ("ts", "shown"),
    [
        ("2026-09-20T10:11:12.345Z", "2026-09-20T10:11:12.345000+00:00"),
        ("2026-09-20T12:11:12+02:00", "2026-09-20T10:11:12+00:00"),
        (0, "1970-01-01T00:00:00+00:00"),
        (1_789_000_000_000, "2026-09-10T00:26:40+00:00"),
    ],
)
def test_a_time_is_rfc_3339_or_milliseconds(ts: object, shown: str) -> None:
    """Both forms of a time are read, and shown in UTC."""
    assert parse(json.dumps(event(ts=ts)).encode())[0].time.isoformat() == shown


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "body: empty"),
        (b" \n ", "body: empty"),
        (b"[]", "body: a batch without events"),
        (b"\xff{}", "body: not JSON"),
        (b'{"a": ', "body: not JSON"),
        (b"NaN", "body: not JSON"),
        (b"[" * 100_000, "body: nested too deep"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "body: nested deeper than 32 levels"),
        (b'{}\n{"a"\n', "line 2: not JSON"),
    ],
)
def test_what_is_not_an_event_says_why(body: bytes, problem: str) -> None:
    """A body that can't be read is refused with the reason."""
    with pytest.raises(EnvelopeError) as refused:
        parse(body)
    assert refused.value.message.startswith(problem)


def test_limits_hold_exactly() -> None:
    """A body at the limits of size, events and depth is accepted. One more of each is refused."""
    text = json.dumps(event()).encode()
    assert parse(text, limits=Limits(size=len(text)))
    assert parse(text, limits=Limits(depth=3))
    assert parse(b"\n".join([text] * 3), limits=Limits(events=3))
    for body, limits, too_large in (
        (text, Limits(size=len(text) - 1), True),
        (b"\n".join([text] * 3), Limits(events=2), True),
        (b"[" + text + b"," + text + b"]", Limits(events=1), True),
        (text, Limits(depth=2), False),
    ):
        with pytest.raises(EnvelopeError) as refused:
            parse(body, limits=limits)
        assert refused.value.too_large is too_large


def test_many_problems_are_cut() -> None:
    """However many events are wrong, the message stays short."""
    assert len(problems([{}] * 5000)) == 20


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    """Any bytes are either refused with EnvelopeError or are events."""
    _either(body)


@given(JSON, st.sampled_from(["", "application/json", "application/x-ndjson"]))
def test_arbitrary_json_raises_nothing_else(value: object, content_type: str) -> None:
    """Any JSON is either refused with EnvelopeError or is events."""
    _either(json.dumps(value).encode(), content_type)


FIELDS = (
    *("schema", "schema.name", "schema.version", "event", "event.id", "event.type", "event.ts", "event.seq"),
    *("event.source", "event.source.framework", "event.source.client_id", "event.source.host", "payload"),
)


@given(st.sampled_from(FIELDS), JSON)
def test_any_value_in_any_field_raises_nothing_else(path: str, value: object) -> None:
    """Whatever stands in a field, the event is refused by that field's name or accepted."""
    for problem in _either(json.dumps(changed(path, value)).encode()):
        assert problem.startswith((path, "body: not JSON"))


def _either(body: bytes, content_type: str = "") -> tuple[str, ...]:
    """Return why a body is refused; nothing if it is events."""
    found: list[Event] = []
    problems: tuple[str, ...] = ()
    try:
        found = parse(body, content_type)
    except EnvelopeError as error:
        problems = error.problems
    assert bool(found) is not bool(problems)
    assert all(isinstance(each, Event) for each in found)
    assert all(each.isprintable() for each in problems)
    return problems


@pytest.mark.parametrize("digits", [20, 400, 4000])
def test_a_number_beyond_64_bits_is_no_time_and_no_seq(digits: int) -> None:
    """A number that no float and no count holds is refused as a time, and passed over as a seq."""
    number = 10**digits
    assert problems(changed("event.ts", number))[0].startswith("event.ts: expected")
    (found,) = parse(json.dumps(changed("event.seq", number)).encode())
    assert found.seq is None
