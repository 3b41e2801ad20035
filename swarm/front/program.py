"""The command line: Invoke's program with one-sentence errors, suggestions, an overview and fast tab completion.

Only the standard library and Invoke are imported at the top, because every call of ./inv imports this module.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import invoke.program
from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.util import helpline

from swarm.errors import UsageError
from swarm.front.process import leave
from swarm.front.task import crashed, failed, remainder, show, task
from swarm.front.words import explain, help_for, merged, unknown_option
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from invoke.parser import Parser
    from invoke.tasks import Task

__all__ = ["Program", "main", "remainder", "task"]


class Program(invoke.program.Program):
    """Invoke's program, bound to this project's tasks.py in whatever folder it is called."""

    _parser: Parser | None = None

    def create_config(self) -> None:
        """Search for tasks.py here, not in the current folder."""
        self.config = Config(overrides={"tasks": {"search_root": str(ROOT)}})

    def parse_core(self, argv: list[str] | None) -> None:
        """Parse the options before the first task. Unlike Invoke, let Python keep compiled modules."""
        super().parse_core(argv)
        sys.dont_write_bytecode = False

    def parse_core_args(self) -> None:
        """Answer --print-completion-script with our own script, which completes host names and starts no Python."""
        with self._explained():
            super().parse_core_args()
        if shell := self.args["print-completion-script"].value:
            from swarm.front.completion import script

            with self._explained():
                sys.stdout.write(script(shell))
            self.load_collection()
            self.parser = self._make_parser()
            self._write_words()
            raise Exit

    def _write_words(self) -> None:
        """Update the word list for tab completion if a module that defines tasks has changed."""
        from swarm.front.completion import WORDS, write_words

        sources = [ROOT / "tasks.py", ROOT / "swarm" / "front" / "completion.py"]
        sources += (ROOT / "swarm" / "namespace").glob("*.py")
        if not WORDS.exists() or any(path.stat().st_mtime > WORDS.stat().st_mtime for path in sources):
            names = self._in_order()
            write_words(
                self.initial_context,
                [(self.parser.contexts[name], helpline(self.collection[name]) or "") for name in names],
            )

    def _make_parser(self) -> Parser:
        """Return the parser of all tasks, made once: making it takes the options' help texts away from the tasks."""
        if self._parser is None:
            self._parser = super()._make_parser()
        return self._parser

    def parse_tasks(self) -> None:
        """Parse the tasks and their options."""
        with self._explained():
            tasks = self._make_parser().contexts
            wanted = help_for(self.core.unparsed, tasks)
            if wanted is None:
                if mistake := unknown_option(self.core.unparsed, tasks, self.initial_context):
                    raise mistake
                self.core.unparsed[:] = merged(self.core.unparsed, tasks)
            else:
                self.core.unparsed.clear()
                self.args.help.set_value(wanted or True, cast=False)
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
        """Turn what Invoke's parser rejects into one sentence and an exit code."""
        try:
            yield
        except (ParseError, ValueError) as error:
            show(explain(error, self._names(), self.argv[1:]))
        except UsageError as error:
            show(error)
        else:
            return
        raise Exit(code=UsageError.exit_code)

    def _names(self) -> list[str]:
        """Return every name by which a task can be called."""
        if not hasattr(self, "collection"):
            return []
        tasks = self.collection.task_names.items()
        return [name for task_name, aliases in tasks for name in (task_name, *aliases)]

    def print_version(self) -> None:
        """Write the version that pyproject.toml states."""
        import tomllib

        version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
        sys.stdout.write(f"{self.name} {version}\n")

    def no_tasks_given(self) -> NoReturn:
        """Show the overview."""
        self.overview()
        raise Exit

    def print_help(self) -> None:
        """Answer a bare --help: the overview, then the options of ./inv itself."""
        if not hasattr(self, "collection"):
            self.load_collection()
        self.overview()
        sys.stdout.write("\nOptions of ./inv itself, which come from Invoke:\n\n")
        self.print_columns(self.initial_context.help_tuples())

    def overview(self) -> None:
        """Write every task with its first sentence, in the order of tasks.py, which is the order of use."""
        from swarm import __doc__ as purpose

        sys.stdout.write(f"{purpose}\n\nUsage: ./inv TASK [--options] [-- arguments for a program]\n\n")
        self.print_columns(
            [(self._short(name), helpline(self.collection[name])) for name in self._in_order()]
        )
        sys.stdout.write(
            "./inv help TASK shows a task's options. "
            'Tab completion: eval "$(./inv --print-completion-script bash)"; also for zsh and fish.\n'
        )

    def _short(self, name: str) -> str:
        """Return the collection's name for its default task: images for images.list."""
        aliases = self.collection.task_names[name]
        return next((alias for alias in aliases if name.startswith(f"{alias}.")), name)

    def _in_order(self) -> Sequence[str]:
        return sorted(self.collection.task_names, key=lambda name: _line(self.collection[name]))


def _line(given: Task[Any]) -> int:
    """Return the line of tasks.py on which a task is defined."""
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
        leave(crashed(error) if os.environ.get("SWARM_DEBUG") else failed(error))
    except Exception as error:  # noqa: BLE001 - a defect of swarm or, with SWARM_DEBUG=1, any error
        leave(crashed(error))
    leave(0)
