"""Write to the terminal: talk to stderr, data to stdout. No other module may.

Text from guests, servers and files passes through `visible` here, so that no control character reaches the
terminal.

On a terminal, running steps show a spinner, progress bars and elapsed time. Elsewhere (a log, CI) each step
is one line, written when the step ends. Several hosts may write at once: every line then begins with the
host's name.

Rich, which draws, takes 25 ms to load. It is loaded at the first output, or while there is nothing to do but
wait.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

from swarm.streams import drop_output, reader_gone
from swarm.text import seconds, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

__all__ = ["Meter", "Screen", "Talk", "escape", "screen"]

_WIDEST = 10_000  # columns of a table that does not go to a terminal: a pipe has no width

_ASCII = 0x7F  # the last character of ASCII, DEL


def escape(text: str) -> str:
    """Return markup that shows exactly `text`: square brackets and control characters have no effect."""
    from rich import markup

    return markup.escape(visible(text))


def _console(*, stderr: bool, width: int | None = None) -> Console:
    """Make a console. Once the reader has gone, writing to stdout raises BrokenPipeError; to stderr it does nothing."""
    from rich.console import Console

    class Own(Console):
        def on_broken_pipe(self) -> None:
            if not stderr:
                raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError
            self.quiet = True

    return Own(stderr=stderr, soft_wrap=True, highlight=False, emoji=False, width=width)


class Meter:
    """The moving part of a step: how far it is and what it is doing."""

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update

    def advance(self, done: int, total: int | None = None) -> None:
        """Show that `done` of `total` bytes (None: unknown) are finished."""
        self._update(completed=done, total=total, sized=True)

    def note(self, text: str) -> None:
        """Show what the step is doing right now."""
        self._update(note=text)


class Screen:
    """The person's terminal, shared by all hosts of a run."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._users = 0
        self.deserted = False  # whether the reader of stdout has gone

    @cached_property
    def out(self) -> Console:
        """Standard output, for data."""
        # Off a terminal, rich would cut a table at 80 columns.
        return _console(stderr=False, width=None if sys.stdout.isatty() else _WIDEST)

    @cached_property
    def err(self) -> Console:
        """Standard error, for talk."""
        return _console(stderr=True)

    def load(self) -> None:
        """Load rich. Call this where there is nothing to do but wait."""
        with self._lock:
            self.err.print("", end="")

    @cached_property
    def _progress(self) -> Progress:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TransferSpeedColumn,
        )
        from rich.table import Table

        class Sized(TextColumn):
            """Bar, bytes and speed, but only for steps that know their size."""

            def __init__(self) -> None:
                super().__init__("")
                self.columns = (
                    BarColumn(bar_width=24),
                    DownloadColumn(binary_units=True),
                    TransferSpeedColumn(),
                )

            def render(self, task: Any) -> Any:  # noqa: ANN401 - rich's own types
                if not task.fields.get("sized"):
                    return super().render(task)
                grid = Table.grid(padding=(0, 1))
                grid.add_row(*(column(task) for column in self.columns))
                return grid

        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            Sized(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        return Progress(*columns, console=self.err, transient=True)

    @contextmanager
    def live(self) -> Iterator[Progress]:
        """Keep the live area on screen while at least one step runs."""
        with self._lock:
            if not self._users:
                self._progress.start()
            self._users += 1
        try:
            yield self._progress
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._progress.stop()
                    del self._progress

    @contextmanager
    def spinner(self, text: str, *, quiet: bool = False) -> Iterator[None]:
        """Show `text` with a spinner during the block, on a terminal. With `quiet`, show nothing."""
        if quiet or not self.err.is_terminal:
            yield
            return
        with self.err.status(escape(text)):
            yield

    @contextmanager
    def verdict(self) -> Iterator[None]:
        """Show in the block what the exit code sums up. Once the reader of stdout has gone, the code alone counts."""
        try:
            yield
        except BrokenPipeError:
            if not reader_gone():  # it is another connection that broke
                raise
            drop_output()
            self.deserted = True

    def line(self, text: str) -> None:
        """Write one line of talk; square brackets are markup."""
        with self._lock:
            self.err.print(visible(text))

    def error(self, error: Exception, prefix: str = "") -> None:
        """Show a failure: its message and its hint. `prefix` is markup, with which every line begins."""
        message, hint = getattr(error, "message", str(error)), getattr(error, "hint", None)
        text = f"[red bold]error:[/] {escape(message)}"
        text += f"\n  [yellow]hint:[/] {escape(hint)}" if hint else ""
        self.line(_prefixed(prefix, text))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table to stdout; headers and cells are plain text. Cells that begin with ✗ are red."""
        self.out.print(_table(columns, rows), crop=False)

    @contextmanager
    def lively(
        self, columns: Sequence[str], *, quiet: bool = False
    ) -> Iterator[Callable[[Callable[[], Iterable[Sequence[str]]]], None]]:
        """Give a function that shows the rows that its argument returns, in place, until the block ends.

        It may be called by any thread. Off a terminal, and with `quiet`, nothing is shown.
        """
        if quiet or not (self.err.is_terminal and self.out.is_terminal):
            yield lambda _: None
            return
        from rich.live import Live

        with Live(console=self.err, transient=True, refresh_per_second=8) as live:
            yield lambda rows: live.update(_table(columns, rows()))

    def clear(self) -> None:
        """Clear the terminal that stdout is. Elsewhere, do nothing."""
        if self.out.is_terminal:
            self.out.clear()

    def data(self, line: str) -> None:
        """Write one line of data to stdout; square brackets are markup."""
        self.out.print(visible(line))

    def text(self, lines: Iterable[str]) -> None:
        """Write lines of plain text to stdout, such as a guest's console log."""
        for line in lines:
            sys.stdout.write(visible(line) + "\n")
        sys.stdout.flush()

    def json(self, data: object, *, indent: int | None = 2) -> None:
        """Write data for scripts to stdout. Without an `indent` it is one line."""
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        for row in json.dumps(data, indent=indent, ensure_ascii=not unicode).split("\n"):
            sys.stdout.write((row if row.isprintable() else _json_escaped(row)) + "\n")
        sys.stdout.flush()


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(*map(_cell, columns), box=None, pad_edge=False, header_style="bold", show_edge=False)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(text: str) -> str:
    shown = escape(visible(text, lines=False))
    return f"[red]{shown}[/]" if shown.startswith("✗") else shown


def _prefixed(prefix: str, markup: str) -> str:
    """Begin each line with `prefix`, so that no host's text can pass for another host's."""
    return prefix + markup.replace("\n", f"\n{prefix}")


def _json_escaped(row: str) -> str:
    """Escape what a terminal would act on, in JSON's own way, so that the values stay the same."""
    return "".join(character if character.isprintable() else _json_escape(character) for character in row)


def _json_escape(character: str) -> str:
    """Return the escape of one character. JSON itself has none for DEL."""
    if ord(character) > _ASCII:
        return json.dumps(character)[1:-1]
    return f"\\u{ord(character):04x}"


def _nowhere(_: str) -> None:
    """Log nothing."""


class Talk:
    """What one host reports. In a run over several hosts, each line begins with the host's name."""

    def __init__(
        self,
        screen: Screen,
        host: str = "",
        *,
        quiet: bool = False,
        log: Callable[[str], None] | None = None,
    ) -> None:
        """`log` is given what is said as plain text, also if this talk is `quiet`."""
        self.screen = screen
        self.host = host
        self._quiet = quiet
        self.record = log or _nowhere

    @property
    def prefix(self) -> str:
        """The beginning of each line, as markup."""
        return f"[cyan]{escape(self.host)}[/] " if self.host else ""

    def say(self, text: str) -> None:
        """Write one plain line."""
        self.record(text)
        if not self._quiet:
            self.screen.line(_prefixed(self.prefix, escape(text)))

    def warn(self, text: str) -> None:
        """Write one line that must not be missed. It is shown even when talk is off."""
        self.record(f"note: {text}")
        self.screen.line(_prefixed(self.prefix, f"[yellow]note:[/] {escape(text)}"))

    def done(self, text: str, took: float | None = None) -> None:
        """Write one line for something finished, with the seconds that it took."""
        self.record(f"✓ {text}" + (f" {seconds(took)}" if took is not None else ""))
        if not self._quiet:
            timing = f" [dim]{seconds(took)}[/]" if took is not None else ""
            self.screen.line(_prefixed(self.prefix, f"[green]✓[/] {escape(text)}{timing}"))

    @contextmanager
    def step(self, text: str, *, silent: bool = False) -> Iterator[Meter]:
        """Show `text` as running during the block, and as done, with its time, after it, unless the block raises."""
        start = time.monotonic()
        if self.screen.err.is_terminal and not self._quiet:
            with self.screen.live() as progress:
                task = progress.add_task(self.prefix + escape(text), total=None, note="", sized=False)

                def update(**fields: Any) -> None:
                    if "note" in fields:
                        fields["note"] = escape(visible(fields["note"], lines=False))
                    progress.update(task, **fields)

                try:
                    yield Meter(update)
                finally:
                    progress.remove_task(task)
        else:
            yield Meter(lambda **_: None)
        if not silent:
            self.done(text, time.monotonic() - start)

    def ask(self, question: str) -> bool:
        """Ask a yes-or-no question. The default is no, which is also the answer where stdin is not a terminal."""
        return self.answer(f"{question} [y/N]", end="").lower() in {"y", "yes"}

    def answer(self, question: str, *, end: str = ":") -> str:
        """Ask for a line of text. Return it without white space around it; empty where stdin is not a terminal."""
        if sys.stdin is None or not sys.stdin.isatty():
            return ""
        self.screen.err.print(f"{self.prefix}{escape(question)}{end} ", end="")
        return sys.stdin.readline().strip()


_SCREENS: list[Screen] = []


def screen() -> Screen:
    """Return the process's one screen, made at first use."""
    if not _SCREENS:
        _SCREENS.append(Screen())
    return _SCREENS[0]
