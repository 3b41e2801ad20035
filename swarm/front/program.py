"""The command line: Invoke's program with errors in one sentence, suggestions, an overview and quick tab completion.

Only the standard library and Invoke are imported at the top, because every call of ./inv imports this module.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, overload

import invoke.program
from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.tasks import Task
from invoke.util import helpline

from swarm.errors import SwarmError, UsageError
from swarm.front.process import leave
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import FrameType

    Body = Callable[..., int | None]

__all__ = ["Program", "main", "remainder", "task"]

AGAIN = "run the same command again to go on"


class Stopped(KeyboardInterrupt):
    """The process was asked to end by another signal than Ctrl-C's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@overload
def task(body: Body, /) -> Task[Any]: ...


@overload
def task(
    *,
    name: str | None = None,
    aliases: Iterable[str] = (),
    positional: Iterable[str] | None = None,
    optional: Iterable[str] = (),
    iterable: Iterable[str] | None = None,
    default: bool = False,
    help: Mapping[str, str] | None = None,
) -> Callable[[Body], Task[Any]]: ...


def task(body: Body | None = None, /, **options: Any) -> Task[Any] | Callable[[Body], Task[Any]]:
    """Make a function a command of ./inv; takes the options of Invoke's decorator of the same name.

    The function's first argument is Invoke's context. A number that it returns becomes the exit code. A SwarmError or
    OSError becomes one sentence on stderr, Ctrl-C and SIGTERM run every `finally` and say how to go on; no flag gets a
    one-letter form, so that adding a flag never changes what an old one means. SWARM_DEBUG=1 shows tracebacks.
    """

    def decorate(body: Body) -> Task[Any]:
        return Task(_guarded(body), auto_shortflags=False, **options)

    return decorate(body) if body else decorate


def remainder() -> list[str]:
    """Return the words after a lone `--` on the command line, each as the shell passed it; Invoke would join them with blanks."""
    words = sys.argv[1:]
    return words[words.index("--") + 1 :] if "--" in words else []


def _guarded(body: Body) -> Callable[..., None]:
    @wraps(body)
    def run(*args: Any, **kwargs: Any) -> None:
        _heed_signals()
        try:
            code = body(*args, **kwargs)
            sys.stdout.flush()  # a reader that has gone is noticed here and not when Python is ending
        except (SwarmError, OSError, KeyboardInterrupt) as error:
            if os.environ.get("SWARM_DEBUG") and not isinstance(error, KeyboardInterrupt):
                raise
            raise Exit(code=_farewell(error)) from None
        if code:
            raise Exit(code=code)

    return run


def _farewell(error: SwarmError | OSError | KeyboardInterrupt) -> int:
    """Say what happened, in one sentence, and return the exit code."""
    if isinstance(error, BrokenPipeError) and _reader_gone():
        # `./inv hosts | head -1` is no failure. What is still buffered goes nowhere, so that Python says nothing either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cut the sentence
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        what = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
        _screen_error(SwarmError(what, AGAIN))
        return 128 + number
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        error = SwarmError(f"{(error.strerror or str(error) or type(error).__name__)}{where}")
    _screen_error(error)
    return error.exit_code


def _screen_error(error: SwarmError) -> None:
    from swarm.console import screen

    screen().error(error)


def _reader_gone() -> bool:
    """Whether nobody reads our stdout any more; a connection that breaks raises the same error, but is one."""
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _heed_signals() -> None:
    """Let Ctrl-C, `kill` and a closed terminal end the task by an exception, so that what it started is cleared away."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    # What is ignored from the start stays so: Ctrl-C in a script's background job, a closed terminal under nohup.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, stop),
        (signal.SIGHUP, stop),
    ):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


class Program(invoke.program.Program):
    """Invoke's program, bound to this project's tasks.py wherever it is called from."""

    def create_config(self) -> None:
        """Look for tasks.py here and not in the current folder."""
        self.config = Config(overrides={"tasks": {"search_root": str(ROOT)}})

    def parse_core(self, argv: list[str] | None) -> None:
        """Read the flags before the first task; unlike Invoke, keep the compiled form of our modules."""
        super().parse_core(argv)
        sys.dont_write_bytecode = False

    def parse_core_args(self) -> None:
        """Answer --print-completion-script with a script of our own, which knows host names and starts no Python."""
        super().parse_core_args()
        if shell := self.args["print-completion-script"].value:
            from swarm.front.completion import script

            try:
                sys.stdout.write(script(shell))
            except UsageError as error:
                _screen_error(error)
                raise Exit(code=error.exit_code) from None
            self.load_collection()
            self.parser = self._make_parser()
            self._write_words()
            raise Exit

    def _write_words(self) -> None:
        """Bring the list of words for tab completion up to date."""
        from swarm.front.completion import WORDS, write_words

        sources = (ROOT / "tasks.py", ROOT / "swarm" / "front" / "completion.py")
        if not WORDS.exists() or any(path.stat().st_mtime > WORDS.stat().st_mtime for path in sources):
            names = self._in_order()
            write_words(
                self.initial_context,
                [(self.parser.contexts[name], helpline(self.collection[name]) or "") for name in names],
            )

    def parse_tasks(self) -> None:
        """Read the tasks and their flags; to an unknown one, name the nearest that exists."""
        with self._explained():
            try:
                super().parse_tasks()
            finally:
                self._write_words()

    def parse_cleanup(self) -> None:
        """Answer --help, --list and the like."""
        with self._explained():
            super().parse_cleanup()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ParseError as error:
            _screen_error(self._explain(error))
            raise Exit(code=UsageError.exit_code) from None

    def _explain(self, error: ParseError) -> UsageError:
        """Say in our words what Invoke's parser says in its own."""
        text = str(error)
        where = error.context.name if error.context else None
        show = f"./inv --help {where}" if where else "./inv --help"
        if match := re.fullmatch(r"No idea what '(.*)' is!", text):
            word = match[1]
            if not word.startswith("-"):
                near = get_close_matches(word, self._names(), n=1)
                return UsageError(
                    f"there is no task {word!r}",
                    f"did you mean {near[0]}?" if near else "./inv --list shows every task",
                )
            near = get_close_matches(word, error.context.flag_names() if error.context else (), n=1)
            return UsageError(
                f"{where or './inv'} has no option {word}",
                f"did you mean {near[0]}?" if near else f"{show} shows its options",
            )
        if match := re.match(r"[Ff]lag <Argument: ([\w-]+).*needed value", text):
            return UsageError(f"the option --{match[1]} needs a value", f"{show} says which")
        return UsageError(text[0].lower() + text[1:], f"{show} shows what it takes")

    def _names(self) -> list[str]:
        return [
            name
            for task_name, aliases in self.collection.task_names.items()
            for name in (task_name, *aliases)
        ]

    def print_version(self) -> None:
        """Write the version that pyproject.toml states."""
        import tomllib

        version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        sys.stdout.write(f"{self.name} {version}\n")

    def no_tasks_given(self) -> NoReturn:
        """Show what there is to do."""
        self.overview()
        raise Exit

    def print_help(self) -> None:
        """Answer a bare --help: the overview, then the options of ./inv itself."""
        self.load_collection()
        self.overview()
        sys.stdout.write("\nOptions of ./inv itself, which come from Invoke:\n\n")
        self.print_columns(self.initial_context.help_tuples())

    def overview(self) -> None:
        """Write every task with its first sentence, in the order of tasks.py, which is the order in which they are needed."""
        from swarm import __doc__ as purpose

        sys.stdout.write(f"{purpose}\n\nUsage: ./inv TASK [--options] [-- words for a program]\n\n")
        self.print_columns([(name, helpline(self.collection[name])) for name in self._in_order()])
        sys.stdout.write(
            './inv --help TASK shows a task\'s options. Tab completion: eval "$(./inv --print-completion-script bash)"; zsh and fish too.\n'
        )

    def _in_order(self) -> Sequence[str]:
        return sorted(self.collection.task_names, key=lambda name: _line(self.collection[name]))


def _line(given: Task[Any]) -> int:
    """The line of tasks.py on which a task is defined."""
    body = getattr(given.body, "__wrapped__", given.body)
    return int(body.__code__.co_firstlineno)


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    sys.argv[0] = "./inv"
    try:
        Program(name="swarm", binary="./inv", binary_names=["inv"]).run()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise  # a sentence, which Python writes
        leave(end.code or 0)
    except OSError as error:  # of Invoke's own output, as with `./inv --list | head -1`
        leave(_farewell(error))
    leave(0)
