"""The envelope of agentmon's events: read a request's body and check it as agentmon's own validation does.

Pure. A body is one event, an array of events, or one event per line (ndjson). It is accepted or refused as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from swarm.errors import SwarmError
from swarm.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LIMITS", "NAME", "TYPES", "VERSION", "EnvelopeError", "Event", "Limits", "parse"]

NAME = "agentmon.event"
VERSION = 1
TYPES = (
    "session.start",
    "session.end",
    "run.start",
    "run.end",
    "span.start",
    "span.end",
    "error",
    "metric.snapshot",
)
_SOURCE = ("framework", "client_id", "host")
_SHOWN = 60  # characters of an invalid value that a problem shows
_MOST_PROBLEMS = 20  # of one body: enough to see a pattern
_GREATEST = (1 << 63) - 1  # of a seq: JSON's numbers may have thousands of digits
_LATEST = 253_402_300_799_999  # milliseconds: the end of the year 9999, the last that RFC 3339 can write


@dataclass(frozen=True)
class Limits:
    """What a body may be at most: its size in bytes, how deep values nest, and its number of events."""

    size: int = 8 << 20
    depth: int = 32
    events: int = 10_000


LIMITS = Limits()


class EnvelopeError(SwarmError):
    """A body is not what agentmon accepts. `problems` names each problem by its field."""

    def __init__(self, *problems: str, too_large: bool = False) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
        self.too_large = too_large


@dataclass(frozen=True)
class Event:
    """A valid event. `data` is the whole of it, as it was sent. `time` is in UTC."""

    data: Mapping[str, Any]
    id: str
    type: str
    time: datetime
    seq: int | None
    framework: str
    client_id: str
    host: str
    payload: Mapping[str, Any]


def parse(body: bytes, content_type: str = "", limits: Limits = LIMITS) -> list[Event]:
    """Return the events of a body. Raise EnvelopeError, and nothing else, whatever the bytes are.

    With a `content_type` of ndjson each line is an event. Otherwise the bytes say which of the three forms they have.
    """
    if len(body) > limits.size:
        raise EnvelopeError(f"body: {len(body)} bytes, more than the limit of {limits.size}", too_large=True)
    if not body.strip():
        raise EnvelopeError("body: empty")
    values, numbered = _values(body, content_type, limits)
    events: list[Event] = []
    problems: list[str] = []
    for number, value in enumerate(values):
        place = f"[{number}]." if numbered else ""
        found = [place + problem for problem in _problems(value, limits)]
        problems += found
        if not found:
            events.append(_event(value))
        if len(problems) >= _MOST_PROBLEMS:
            break
    if problems:
        raise EnvelopeError(*problems[:_MOST_PROBLEMS])
    return events


def _values(body: bytes, content_type: str, limits: Limits) -> tuple[list[Any], bool]:
    """Return the values that should be events, and whether there may be several of them."""
    if "ndjson" not in content_type.lower():
        try:
            whole = _decode(body, "body")
        except EnvelopeError:
            if len(_lines(body, 2)) == 1:
                raise
        else:
            return _bounded(whole, limits) if isinstance(whole, list) else ([whole], False)
    lines = _lines(body, limits.events + 1)
    _bounded(lines, limits)
    return [_decode(line, f"line {number}") for number, line in enumerate(lines, 1)], True


def _lines(body: bytes, most: int) -> list[bytes]:
    """Return the first `most` lines of a body that are not blank."""
    found: list[bytes] = []
    for line in body.split(b"\n"):
        if line.strip():
            found.append(line)
        if len(found) == most:
            break
    return found


def _bounded(values: list[Any], limits: Limits) -> tuple[list[Any], bool]:
    if not values:
        raise EnvelopeError("body: a batch without events")
    if len(values) > limits.events:
        raise EnvelopeError(f"body: more than {limits.events} events", too_large=True)
    return values, True


def _decode(text: bytes, place: str) -> Any:  # noqa: ANN401 - JSON holds any type
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise EnvelopeError(f"{place}: nested too deep") from None
    except ValueError as error:  # msgspec's DecodeError, and UnicodeDecodeError
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise EnvelopeError(f"{place}: not JSON: {visible(reason, lines=False)}") from None


def _problems(value: object, limits: Limits) -> Iterator[str]:
    """Yield each problem of one event, in the order of its fields."""
    if not isinstance(value, dict):
        yield f"event: expected an object, found {_shown(value)}"
        return
    if _depth(value, limits.depth) > limits.depth:
        yield f"body: nested deeper than {limits.depth} levels"
        return
    yield from _schema_problems(value.get("schema"))
    yield from _event_problems(value.get("event"))
    payload = value.get("payload")
    if payload is not None and not isinstance(payload, dict):
        yield f"payload: expected an object, found {_shown(payload)}"


def _schema_problems(schema: object) -> Iterator[str]:
    if not isinstance(schema, dict):
        yield f"schema: expected an object, found {_shown(schema)}"
        return
    if schema.get("name") != NAME:
        yield f'schema.name: expected "{NAME}", found {_shown(schema.get("name"))}'
    version = schema.get("version")
    if isinstance(version, bool) or version != VERSION:  # in Python, True equals 1
        yield f"schema.version: expected {VERSION}, found {_shown(version)}"


def _event_problems(event: object) -> Iterator[str]:
    if not isinstance(event, dict):
        yield f"event: expected an object, found {_shown(event)}"
        return
    if not _text(event.get("id")):
        yield f"event.id: expected a non-empty string, found {_shown(event.get('id'))}"
    if event.get("type") not in TYPES:
        yield f"event.type: expected one of {', '.join(TYPES)}, found {_shown(event.get('type'))}"
    if _time(event.get("ts")) is None:
        yield f"event.ts: expected RFC 3339 or Unix milliseconds, found {_shown(event.get('ts'))}"
    source = event.get("source")
    if not isinstance(source, dict):
        yield f"event.source: expected an object, found {_shown(source)}"
        return
    for key in _SOURCE:
        if not _text(source.get(key)):
            yield f"event.source.{key}: expected a non-empty string, found {_shown(source.get(key))}"


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _time(value: object) -> datetime | None:
    """Return a point in time in UTC, or None if `value` is not one."""
    if isinstance(value, str):
        try:
            found = msgspec.convert(value, datetime)
            return found.astimezone(UTC) if found.tzinfo else None
        except (ValueError, OverflowError):
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        return None
    return datetime.fromtimestamp(value / 1000, UTC)


def _event(value: dict[str, Any]) -> Event:
    event, source, time = value["event"], value["event"]["source"], _time(value["event"]["ts"])
    assert time is not None  # noqa: S101 - _problems has checked it
    seq = event.get("seq")
    return Event(
        data=value,
        id=event["id"],
        type=event["type"],
        time=time,
        seq=seq if isinstance(seq, int) and not isinstance(seq, bool) and abs(seq) <= _GREATEST else None,
        framework=source["framework"],
        client_id=source["client_id"],
        host=source["host"],
        payload=value.get("payload") or {},
    )


def _depth(value: object, most: int) -> int:
    """Return how deep objects and arrays nest, or `most` + 1 if it is more. Walks level by level, without recursion."""
    depth, level = 0, [value]
    while level and depth <= most:
        level = [inner for each in level for inner in _inner(each)]
        depth += 1
    return depth


def _inner(value: object) -> list[object]:
    if isinstance(value, dict):
        value = list(value.values())
    return [each for each in value if isinstance(each, dict | list)] if isinstance(value, list) else []


def _shown(value: object) -> str:
    """Return an invalid value for a message: its kind, or a short part of it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = str(value) if isinstance(value, int | float) else f'"{str(value)[:_SHOWN]}"'
    return visible(text[: _SHOWN + 2], lines=False)
