"""The one place that talks to the person: stderr is talk, stdout is data.

On a terminal, running steps show a spinner, progress bars and elapsed time; elsewhere (a log, CI) each step is one line
when it ends, so that a log stays readable. Several hosts may talk at once: every line then begins with the host's name.

Rich, which does the drawing, takes 25 ms to load: it is loaded when something is to be shown, or when there is nothing to do but wait.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any

from swarm.text import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import Console
    from rich.progress import Progress

__all__ = ["Meter", "Screen", "Talk", "escape", "screen"]


_WIDEST = 10_000  # columns


def escape(text: str) -> str:
    """Return `text` as markup that shows exactly it: square brackets are nothing special."""
    from rich import markup

    return markup.escape(text)


class Meter:
    """The moving part of a step: how far it is and what it is doing."""

    def __init__(self, update: Callable[..., None]) -> None:
        self._update = update

    def advance(self, done: int, total: int | None = None) -> None:
        """Say that `done` bytes of `total` (None: unknown) are finished."""
        self._update(completed=done, total=total, sized=True)

    def note(self, text: str) -> None:
        """Show what is going on right now."""
        self._update(note=text)


class Screen:
    """The person's terminal, shared by all hosts of a run."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._users = 0

    @cached_property
    def out(self) -> Console:
        """Standard output, for data."""
        from rich.console import Console

        # Off a terminal rich would cut a table at 80 columns; a pipe has no width.
        return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _WIDEST)

    @cached_property
    def err(self) -> Console:
        """Standard error, for talk."""
        from rich.console import Console

        return Console(stderr=True, soft_wrap=True, highlight=False)

    def load(self) -> None:
        """Get ready to write; called where there is nothing to do but wait."""
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

    def line(self, text: str) -> None:
        """Write one line of talk; square brackets are markup."""
        with self._lock:
            self.err.print(text)

    def error(self, error: Exception, prefix: str = "") -> None:
        """Show a failure: its sentence and its hint."""
        message, hint = getattr(error, "message", str(error)), getattr(error, "hint", None)
        self.line(
            f"{prefix}[red bold]error:[/] {escape(message)}"
            + (f"\n{prefix}  [yellow]hint:[/] {escape(hint)}" if hint else "")
        )

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table to stdout; cells are plain text."""
        from rich.table import Table

        table = Table(*columns, box=None, pad_edge=False, header_style="bold", show_edge=False)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.out.print(table, crop=False)

    def json(self, data: object) -> None:
        """Write data for scripts to stdout."""
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()


class Talk:
    """What one host says; with several hosts each line carries the name."""

    def __init__(self, screen: Screen, host: str = "", *, quiet: bool = False) -> None:
        self.screen = screen
        self.host = host
        self._quiet = quiet

    @property
    def prefix(self) -> str:
        """What each line begins with, as markup."""
        return f"[cyan]{escape(self.host)}[/] " if self.host else ""

    def say(self, text: str) -> None:
        """Write one plain line."""
        if not self._quiet:
            self.screen.line(self.prefix + escape(text))

    def warn(self, text: str) -> None:
        """Write one line that should not be missed; it is shown even when talk is off."""
        self.screen.line(f"{self.prefix}[yellow]note:[/] {escape(text)}")

    def done(self, text: str, took: float | None = None) -> None:
        """Write one line for something finished, with the seconds that it took."""
        if not self._quiet:
            timing = f" [dim]{seconds(took)}[/]" if took is not None else ""
            self.screen.line(f"{self.prefix}[green]✓[/] {escape(text)}{timing}")

    @contextmanager
    def step(self, text: str, *, silent: bool = False) -> Iterator[Meter]:
        """Show `text` as running while the block runs, and as done, with its time, after it; nothing if the block raises."""
        start = time.monotonic()
        if self.screen.err.is_terminal and not self._quiet:
            with self.screen.live() as progress:
                task = progress.add_task(self.prefix + escape(text), total=None, note="", sized=False)

                def update(**fields: Any) -> None:
                    shown: dict[str, Any] = {
                        key: escape(value) if key == "note" else value for key, value in fields.items()
                    }
                    progress.update(task, **shown)

                try:
                    yield Meter(update)
                finally:
                    progress.remove_task(task)
        else:
            yield Meter(lambda **_: None)
        if not silent:
            self.done(text, time.monotonic() - start)

    def ask(self, question: str) -> bool:
        """Ask yes or no; no is the default, and the answer where nobody can be asked."""
        if not sys.stdin.isatty():
            return False
        self.screen.err.print(f"{self.prefix}{escape(question)} \\[y/N] ", end="")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}


_SCREENS: list[Screen] = []


def screen() -> Screen:
    """Return the process's one screen, made at first use."""
    if not _SCREENS:
        _SCREENS.append(Screen())
    return _SCREENS[0]
