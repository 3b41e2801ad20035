"""One self-contained page for a browser: what to do, every host, and the history of each. It needs no JavaScript."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from swarm import history
from swarm.fleet.status import COLUMNS, FOREIGN, row, shown
from swarm.paths import ROOT
from swarm.text import amount, seconds, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from swarm.fleet.actions import Action
    from swarm.fleet.status import Status
    from swarm.history import Entry

__all__ = ["page"]

_WIDTH, _HEIGHT = 320, 72  # of a chart, in its own units
_BARS = 60  # the newest entries of a chart; more would be thinner than a pixel on a phone
_SSH = COLUMNS.index("SSH")
_SHORT = 15  # characters: an IPv4 address
_RESULTS = {"success": "ok", "warning": "odd", "failure": "fail"}


class _Cell(NamedTuple):
    text: str
    mark: str


class _Bar(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    mark: str
    title: str


@dataclass(frozen=True)
class _Chart:
    title: str
    label: str
    words: str
    bars: list[_Bar]
    width: int = _WIDTH
    height: int = _HEIGHT


class _Past(NamedTuple):
    name: str
    charts: list[_Chart]


def page(
    found: Sequence[Status],
    errors: Sequence[str],
    todo: Sequence[Action],
    now: float,
    *,
    litellm: bool | None = None,
) -> str:
    """Return the page of the hosts `found`. `errors` are the names of those about which nothing is known.

    `todo` is what a person must do. `now` is in seconds since 1970. `litellm` is whether LiteLLM is ready, or None.
    """
    from swarm.templates import render

    style = (ROOT / "templates" / "status" / "page.css").read_text(encoding="utf-8")
    rows = [row(status) for status in found]
    rows += [(name, "✗ unknown", *[""] * (len(COLUMNS) - 2)) for name in errors]
    columns, rows = shown(sorted(rows))
    past = [
        _Past(_clean(name), charts)
        for name in sorted(each.host for each in found)
        if (charts := _charts(name))
    ]
    return render(
        "status/page.html.j2",
        title="swarm: all is well" if not todo else f"swarm: {_counted(len(todo), 'thing')} to do",
        style=_Safe(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        iso=_time(now).isoformat(timespec="seconds"),
        when=f"{_time(now):%Y-%m-%d %H:%M} UTC",
        tiles=_tiles(found, errors, todo, litellm),
        todo=[{name: _clean(text) for name, text in each.to_json().items()} for each in todo],
        columns=columns,
        rows=[[_cell(text, number) for number, text in enumerate(cells)] for cells in rows],
        past=past,
    )  # fmt: skip


class _Safe(str):
    """Text of the project's own that needs no escaping."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def _tiles(
    found: Sequence[Status],
    errors: Sequence[str],
    todo: Sequence[Action],
    litellm: bool | None,  # noqa: FBT001
) -> list[tuple[str, str, str]]:
    """Return the number, the words and the mark of each tile."""
    total = len(found) + len(errors)
    running = sum(each.up for each in found)
    ready = sum(each.inside.gateway == "ready" for each in found)
    tiles = [
        (f"{running} of {total}", "VMs running", ""),
        (str(ready), "gateways ready", ""),
        (str(len(todo)), "to do", "bad" if todo else "good"),
    ]
    if litellm is not None:
        tiles.append(("ready" if litellm else "not ready", "LiteLLM", "good" if litellm else "bad"))
    return tiles


def _cell(text: str, number: int) -> _Cell:
    mark = "" if text else "none"
    if text.startswith("✗"):
        mark = "bad"
    elif text in {"ok", "running", FOREIGN}:
        mark = "good"
    # The first columns stay on one line where the table has its columns.
    return _Cell(_clean(text), f"{mark} short".strip() if number <= _SSH and len(text) <= _SHORT else mark)


def _clean(text: str) -> str:
    return visible(text, lines=False)


# ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _charts(name: str) -> list[_Chart]:
    """Return the charts for which the host's history has at least one entry."""
    known = history.entries(name)
    of = {
        kind: [each for each in known if each["kind"] == kind][-_BARS:]
        for kind in ("backup", "provision", "up")
    }
    stored = [each for each in of["backup"] if each.get("result") != "failure"]
    wells = [each for each in known if each["kind"] == "health"][-history.HEALTH :]
    charts = [
        _chart("Size of the archives", stored, "stored", _size),
        _chart("Duration of the backups", of["backup"], "seconds", seconds),
        _chart("Duration of provision", of["provision"], "seconds", seconds),
        _chart("Duration of up", of["up"], "seconds", seconds),
        _health(wells),
    ]
    return [each for each in charts if each]


def _size(value: float) -> str:
    return amount(int(value))


def _chart(title: str, entries: Sequence[Entry], key: str, words: Callable[[float], str]) -> _Chart | None:
    values = [(each, number) for each in entries if (number := _number(each.get(key))) is not None]
    if not values:
        return None
    most = max(number for _, number in values)
    step = _WIDTH / max(len(values), 12)
    bars = [
        _bar(index * step, step, number / most if most else 0.0, _RESULTS.get(str(entry.get("result")), "ok"),
             f"{_moment(entry)}: {words(number)}{_word(entry)}")
        for index, (entry, number) in enumerate(values)
    ]  # fmt: skip
    last = values[-1][1]
    text = f"last {words(last)}, most {words(most)}, {_counted(len(values), 'run')}"
    return _Chart(title, f"{title}: {text}", text, bars)


def _health(entries: Sequence[Entry]) -> _Chart | None:
    if not entries:
        return None
    step = _WIDTH / max(len(entries), 24)
    bars = [
        _bar(index * step, step, 0.5 if each.get("ok") is True else 1.0, "well" if each.get("ok") is True else "fail",
             f"{_moment(each)}: {'well' if each.get('ok') is True else 'needed a person'}")
        for index, each in enumerate(entries)
    ]  # fmt: skip
    well = sum(each.get("ok") is True for each in entries)
    text = f"well at {well} of {_counted(len(entries), 'look')}, since {_moment(entries[0])}"
    return _Chart("Health", f"Health: {text}", text, bars)


def _bar(x: float, step: float, share: float, mark: str, title: str) -> _Bar:
    """Return a bar whose height is `share` of the chart's. The smallest one can still be seen."""
    height = max(share * _HEIGHT, 2.0)
    return _Bar(round(x, 2), round(_HEIGHT - height, 2), round(step * 0.8, 2), round(height, 2), mark, title)


def _word(entry: Entry) -> str:
    result = str(entry.get("result"))
    return f", {result}" if result in {"warning", "failure"} else ""


def _number(value: object) -> float | None:
    """Return a number that can be drawn, or None: the history is a file that anything may have damaged."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18  # noqa: PLR2004
    return float(value) if usable else None  # type: ignore[arg-type] # it is a number


def _moment(entry: Entry) -> str:
    return f"{_time(float(entry['at'])):%Y-%m-%d %H:%M}"


def _time(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
