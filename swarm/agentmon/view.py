"""What a person sees of an event: one line of a table, and notes about gaps and repeats. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.text import seconds, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from swarm.agentmon.envelope import Event

__all__ = ["HEADER", "Watch", "line", "summary"]

_SHORT = 8  # characters of an id: enough to tell the sessions of a day apart
_WIDEST = 200  # characters of one value
_GREATEST = 1e15  # of numbers that are shown: beyond it they are no count and no duration
_IDS = 100_000  # ids that are remembered to recognize repeats, about 10 MB
_BOOTS = 1_000
_WIDTHS = (12, 14, 15, 8, 8)
HEADER = "  ".join(
    name.ljust(width) for name, width in zip(("time", "host", "type", "session", "run"), _WIDTHS, strict=True)
)
HEADER += "  what"

# The names that a value may have, the most exact first. OpenTelemetry's are those of the hook.
_MODEL = ("gen_ai.response.model", "gen_ai.request.model", "model")
_TOOL = ("gen_ai.tool.name", "tool", "tool_name")
_NAME = ("openclaw.event", "openclaw.name", "name", "kind")
_INPUT = ("gen_ai.usage.input_tokens", "input_tokens", "input")
_OUTPUT = ("gen_ai.usage.output_tokens", "output_tokens", "output")
_DURATION = ("openclaw.duration_ms", "duration_ms", "durationMs")
_OUTCOME = ("error.type", "openclaw.outcome", "openclaw.status", "outcome", "status")
_BOOT = ("openclaw.boot.id", "openclaw.boot_id", "boot_id", "boot")


def line(event: Event) -> str:
    """Return an event as one line of the table under HEADER. Times are in UTC."""
    cells = (
        event.time.strftime("%H:%M:%S.") + f"{event.time.microsecond // 1000:03d}",
        event.client_id,
        event.type,
        _short(event.payload.get("session")),
        _short(event.payload.get("run")),
    )
    row = [_cell(text, width) for text, width in zip(cells, _WIDTHS, strict=True)]
    return "  ".join([*row, " ".join(_what(event.payload))]).rstrip()


def _what(payload: Mapping[str, Any]) -> Iterator[str]:
    for names in (_NAME, _MODEL, _TOOL):
        value = _find(payload, names)
        if isinstance(value, str):
            yield _cut(value)
    tokens = _find(payload, _INPUT), _find(payload, _OUTPUT)
    if any(_number(each) for each in tokens):
        yield "tokens {}→{}".format(*(each if _number(each) else "?" for each in tokens))
    took = _find(payload, _DURATION)
    if isinstance(took, int | float) and _number(took):
        yield f"{took:.0f} ms" if took < 1000 else seconds(took / 1000)  # noqa: PLR2004 - one second
    outcome = _find(payload, _OUTCOME)
    if isinstance(outcome, str):
        yield _cut(outcome)


def _number(value: object) -> bool:
    """Whether it is a number of a size that a person reads. JSON has no infinity, but other callers do."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _GREATEST


def _find(payload: Mapping[str, Any], names: tuple[str, ...]) -> object:
    """Return the first value of one of these names, in the payload or in one of its objects."""
    places = [payload, *(each for each in payload.values() if isinstance(each, dict))]
    return next((each[name] for name in names for each in places if each.get(name) is not None), None)


def _short(value: object) -> str:
    """Return the beginning of an id, without the prefix that says how it was hashed."""
    return value.rpartition(":")[2][:_SHORT] if isinstance(value, str) else ""


def _cut(text: str) -> str:
    text = visible(text, lines=False)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _cell(text: str, width: int) -> str:
    text = visible(text, lines=False)
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"


@dataclass
class Watch:
    """What has arrived so far: counts, the last seq of each boot of a gateway, and the ids that were seen."""

    types: Counter[str] = field(default_factory=Counter)
    hosts: set[str] = field(default_factory=set)
    repeated: int = 0
    missing: int = 0
    refused: int = 0
    _ids: OrderedDict[str, None] = field(default_factory=OrderedDict, repr=False)
    _seqs: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict, repr=False)

    @property
    def total(self) -> int:
        """The number of events, repeats left out."""
        return self.types.total()

    def see(self, event: Event) -> list[str]:
        """Count an event. Return what is remarkable about it: a repeat, a gap before it, or that it comes late."""
        if event.id in self._ids:
            self.repeated += 1
            return [f"repeat: {_cut(event.id)} has arrived before"]
        _remember(self._ids, event.id, None, _IDS)
        self.types[event.type] += 1
        self.hosts.add(event.client_id)
        return [] if event.seq is None else self._follow(event, event.seq)

    def _follow(self, event: Event, seq: int) -> list[str]:
        boot = _find(event.payload, _BOOT)
        key = (event.client_id, boot if isinstance(boot, str) else "")
        last = self._seqs.get(key)
        if last is not None and seq <= last:
            self.missing = max(0, self.missing - 1)
            return [f"late: seq {seq} after {last}"]
        _remember(self._seqs, key, seq, _BOOTS)
        if last is None or seq == last + 1:
            return []
        self.missing += seq - last - 1
        return [f"gap: {_count(seq - last - 1, 'event')} missing (seq {last + 1} to {seq - 1})"]


def _remember(known: OrderedDict[Any, Any], key: object, value: object, most: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)


def summary(watch: Watch) -> str:
    """Return the counts as one sentence."""
    words = [f"{_count(watch.total, 'event')} from {_count(len(watch.hosts), 'host')}"]
    words += [
        f"{number} {name}"
        for name, number in (
            ("repeated", watch.repeated),
            ("missing", watch.missing),
            ("refused", watch.refused),
        )
        if number
    ]
    return ", ".join(words)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
