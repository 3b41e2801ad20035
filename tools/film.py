"""From pictures of a terminal to one SVG that moves: lines of text that appear and vanish, by CSS alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyte

__all__ = ["Shot", "shot", "svg"]

_WAIT = 2.0  # seconds that a longer wait is shown for
_STEP = 0.2  # seconds, at least, between two pictures of a wait
_END = 6.0  # seconds that the end stays
_WIDTH, _HEIGHT = (
    8.4,
    18,
)  # of a character cell, in the SVG's own units; monospaced fonts are about 0.6 em wide
_SIZE = 14  # of the font
_EDGE, _BAR = 14, 40  # around the text, and the height of the title

# A terminal of its own, the same on a light page and on a dark one.
_BACK, _FRAME, _TEXT, _DIM = "#161b22", "#30363d", "#e6edf3", "#8b949e"
_COLOURS = {
    "black": "#484f58",
    "red": "#ff7b72",
    "green": "#3fb950",
    "brown": "#d29922",  # what pyte calls yellow
    "blue": "#58a6ff",
    "magenta": "#bc8cff",
    "cyan": "#39c5cf",
    "white": "#b1bac4",
    "brightblack": _DIM,
    "brightred": "#ffa198",
    "brightgreen": "#56d364",
    "brightbrown": "#e3b341",
    "brightblue": "#79c0ff",
    "brightmagenta": "#d2a8ff",
    "brightcyan": "#56d4dd",
    "brightwhite": "#ffffff",
}


@dataclass(frozen=True)
class Run:
    """Signs beside each other that look alike: the column of the first, their text, colour and weight."""

    column: int
    text: str
    colour: str
    bold: bool


Row = tuple[Run, ...]


@dataclass(frozen=True)
class Shot:
    """What the screen showed at one moment, in seconds since the recording's start."""

    at: float
    rows: tuple[Row, ...]

    @property
    def essence(self) -> str:
        """Its text without what a wait changes by itself: spinners, times, sizes and bars."""
        text = "\n".join("".join(run.text for run in row) for row in self.rows)
        return re.sub(r"[⠀-⣿━╸╺|/\\0-9.:-]+.*", "", text)


def shot(screen: pyte.Screen, at: float) -> Shot:
    """Return what a terminal shows now."""
    return Shot(at, tuple(_row(screen, number) for number in range(screen.lines)))


def _row(screen: pyte.Screen, number: int) -> Row:
    runs: list[Run] = []
    cells = screen.buffer[number]
    for column in range(screen.columns):
        cell = cells[column]
        colour = _COLOURS.get(cell.fg, _TEXT if cell.fg == "default" else f"#{cell.fg}")
        before = runs[-1] if runs else None
        if (
            before
            and before.colour == colour
            and before.bold == cell.bold
            and before.column + len(before.text) == column
        ):
            runs[-1] = Run(before.column, before.text + cell.data, colour, cell.bold)
        elif cell.data != " ":
            runs.append(Run(column, cell.data, colour, cell.bold))
    return tuple(Run(run.column, run.text.rstrip(), run.colour, run.bold) for run in runs)


def _paced(shots: Sequence[Shot]) -> list[Shot]:
    """Return the pictures to show, with the times to show them at: a long wait is shown as a short one."""
    paced: list[Shot] = []
    now, first = 0.0, 0
    for number in range(1, len(shots) + 1):
        if number < len(shots) and shots[number].essence == shots[first].essence:
            continue
        end = shots[number].at if number < len(shots) else shots[-1].at
        lasts = end - shots[first].at
        pace = min(1.0, _WAIT / lasts) if lasts else 1.0
        for one in shots[first:number]:
            at = now + (one.at - shots[first].at) * pace
            if one is shots[first] or (at - paced[-1].at >= _STEP and one.rows != paced[-1].rows):
                paced.append(Shot(at, one.rows))
        now += lasts * pace
        first = number
    return paced


def _spans(shots: Sequence[Shot], end: float) -> Iterable[tuple[int, Row, float, float]]:
    """Each line of text, and from when to when it stands in which row."""
    for number in range(len(shots[0].rows)):
        since, row = 0.0, shots[0].rows[number]
        for one in shots[1:]:
            if one.rows[number] != row:
                yield number, row, since, one.at
                since, row = one.at, one.rows[number]
        yield number, row, since, end


def svg(shots: Sequence[Shot], title: str, *, still: bool = False) -> str:
    """Return the film. Where nothing moves (a printer, or reduced motion), and if `still`, it is the last picture."""
    paced = [Shot(0.0, shots[-1].rows)] if still else _paced(shots)
    end = paced[-1].at + _END
    spans = [span for span in _spans(paced, end) if span[1]]
    height = (max(number for number, *_ in spans) + 1) * _HEIGHT + _BAR + _EDGE
    width = round(100 * _WIDTH + 2 * _EDGE)
    lines: dict[Row, int] = {}
    moments: dict[tuple[float, float], int] = {}
    uses = []
    for number, row, since, until in spans:
        line = lines.setdefault(row, len(lines))
        moment = moments.setdefault((since, until), len(moments))
        hidden = "" if until == end else ' visibility="hidden"'
        uses.append(f'<use href="#l{line}" y="{number * _HEIGHT}" class="k{moment}"{hidden}/>')
    real = shots[-1].at
    shown = "its end" if still else f"waits are shown shortened, to {_span(paced[-1].at)}"
    caption = f"{title} – a real run of {_span(real)}; {shown}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
            ' role="img" xml:space="preserve">',
            f"<title>{escape(caption)}</title>",
            f"<style>text{{fill:{_TEXT};white-space:pre}}",
            f"text{{font:{_SIZE}px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}}",
            ".b{font-weight:bold}",
            *(f".c{number}{{fill:{colour}}}" for number, colour in enumerate(_COLOURS.values())),
            "@media (prefers-reduced-motion:no-preference){",
            *(_animation(number, since, until, end) for (since, until), number in moments.items()),
            "}</style>",
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="{_BACK}" stroke="{_FRAME}"/>',
            f'<text x="{_EDGE}" y="24" style="fill:{_DIM};font-size:12px">{escape(caption)}</text>',
            "<defs>",
            *(f'<g id="l{number}">{"".join(_text(run) for run in row)}</g>' for row, number in lines.items()),
            "</defs>",
            f'<g transform="translate({_EDGE} {_BAR + _SIZE})">',
            *uses,
            "</g></svg>\n",
        ]
    )


def _text(run: Run) -> str:
    colours = list(_COLOURS.values())
    names = [
        *(["b"] if run.bold else []),
        *([f"c{colours.index(run.colour)}"] if run.colour in colours else []),
    ]
    looks = f' class="{" ".join(names)}"' if names else ""
    # The length keeps the columns where they are, whatever font there is.
    length = f' textLength="{len(run.text) * _WIDTH:.1f}"' if len(run.text) > 1 else ""
    return f'<text x="{run.column * _WIDTH:.1f}"{length}{looks}>{escape(run.text)}</text>'


def _animation(number: int, since: float, until: float, end: float) -> str:
    start, stop = 100 * since / end, 100 * until / end
    hide, show = "{visibility:hidden}", "{visibility:visible}"
    frames = f"0%{hide}{start:.2f}%{show}" if since else f"0%{show}"
    frames += f"{stop:.2f}%,100%{hide}" if until < end else f"100%{show}"
    return f"@keyframes k{number}{{{frames}}}.k{number}{{animation:k{number} {end:.1f}s step-end infinite}}"


def _span(length: float) -> str:
    whole = round(length)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
