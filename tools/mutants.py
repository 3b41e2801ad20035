"""Measure unit tests by mutants: change one operator, constant, condition or return, and see whether a test fails.

    python -m tools.mutants MODULE.py … [--tests PATH …] [--sample N] [--seed S] [--jobs N] [--fail-under PERCENT]

Run it from the project's root. It changes no file of the work tree: a mutant exists only in a forked process, where an
import hook supplies its code. A first run without a mutant records which tests execute which lines. Each mutant meets
those tests first, then all other tests that execute anything in its module. A program that a test starts runs the
original code. mutmut 3 and Cosmic Ray were considered: mutmut copies the project and mutates all of it, Cosmic Ray
edits the work tree and starts pytest anew for each mutant; neither takes a sample.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings

from tools.mutations import Mutant, mutants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.machinery import ModuleSpec
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from types import CodeType, FrameType

    Trace = Callable[[FrameType, str, Any], Any]

PYTEST = "-x -q --assert=plain -c pyproject.toml --rootdir . -p no:cacheprovider -p no:xdist"
_CONFTEST = "while loading conftest"  # of a failure that pytest counts as a usage error, too
LEAST = 5.0  # seconds that a mutant always gets, on top of five times what its tests took without it


class Supplier(SourceFileLoader):
    """Supplies a mutant's code, as a finder and a loader of the one module that it is in."""

    def __init__(self, mutant: Mutant) -> None:
        parts = mutant.path.with_suffix("").parts
        super().__init__(
            ".".join(parts[:-1] if parts[-1] == "__init__" else parts), str(mutant.path.resolve())
        )
        self.mutant = mutant

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return the module's spec, or None for any other module."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, _name: str) -> CodeType:
        """Return the changed code."""
        return self.mutant.code()


class Recorder:
    """A pytest plugin that records which test executes which lines of the given files, and how long it takes."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.names = {name: path for path in paths for name in (str(path), str(path.resolve()))}
        self.test = ""  # the one that runs; empty while pytest imports the test files
        self.seen: dict[tuple[Path, int], dict[str, None]] = defaultdict(dict)
        self.times: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note which test runs, and for how long."""
        self.test, begun = item.nodeid, time.monotonic()
        try:
            return (yield)
        finally:
            self.times[self.test] = time.monotonic() - begun

    def trace(self, frame: FrameType, _event: str, _value: object) -> Trace | None:
        """Follow the frames of the given files alone."""
        path = self.names.get(frame.f_code.co_filename)
        if not path:
            return None

        def note(frame: FrameType, _event: str, _value: object) -> Trace:
            self.seen[path, frame.f_lineno][self.test] = None
            return note

        return note(frame, "", None)


class Chosen:
    """A pytest plugin that runs only the given tests, in the given order."""

    def __init__(self, tests: Iterable[str]) -> None:
        self.places = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Drop and sort what was collected."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self.places), key=lambda item: self.places[item.nodeid]
        )


@dataclass
class Lab:
    """Where mutants are tried: a folder for what tests write, and what the run without a mutant showed."""

    scratch: Path
    tests: list[str]
    seen: dict[tuple[Path, int], dict[str, None]] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)

    def covering(self, mutant: Mutant) -> list[str]:
        """Return the tests that may kill the mutant, the likeliest first. Empty if none executes its statement."""
        lines = [test for line in mutant.span for test in self.seen.get((mutant.path, line), ())]
        every = [test for (path, _), tests in self.seen.items() if path == mutant.path for test in tests]
        return [test for test in dict.fromkeys(lines + every) if test] if lines else []

    def limit(self, mutant: Mutant) -> float:
        """Return the seconds after which the mutant counts as killed by a hang."""
        return LEAST + 5 * sum(self.times[test] for test in self.covering(mutant))

    def start(self, mutant: Mutant) -> BaseProcess:
        """Start to try the mutant."""
        return self._fork(lambda: self._try(mutant))

    def survival(self, process: BaseProcess, code: int | None) -> str:
        """Return why a mutant is not killed, or ''. Any other exit code is a test's, a crash's or that of the limit."""
        if code == pytest.ExitCode.OK:
            return "no test fails"
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:  # a test whose name is made of what has changed
            return "none of its tests is found"
        if code == pytest.ExitCode.USAGE_ERROR and _CONFTEST not in self._output(process):
            return "pytest refused to run"
        return ""

    def _output(self, process: BaseProcess) -> str:
        return (self.scratch / f"{process.pid}").read_text(encoding="utf-8", errors="replace")

    def _try(self, mutant: Mutant) -> int:
        chosen = self.covering(mutant)
        sys.meta_path.insert(0, Supplier(mutant))
        return self.pytest(dict.fromkeys(test.split("::")[0] for test in chosen), Chosen(chosen))

    def observe(self, paths: list[Path]) -> None:
        """Run all tests without a mutant, record what they execute, and import here what each of them needs.

        Raise SystemExit if a test fails.
        """
        receiving, sending = multiprocessing.Pipe(duplex=False)
        process = self._fork(lambda: self._observed(paths, sending))
        sending.close()
        with contextlib.suppress(EOFError):
            self.seen, self.times, modules = receiving.recv()
            for name in modules:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        process.join()
        if process.exitcode:
            raise SystemExit(f"the tests fail without a mutant:\n{self._output(process)[-4000:]}")

    def _observed(self, paths: list[Path], sending: Connection) -> int:
        recorder, before = Recorder(paths), set(sys.modules)
        threading.settrace(recorder.trace)
        sys.settrace(recorder.trace)
        code = self.pytest(self.tests, recorder)
        sys.settrace(None)
        modules = [name for name in sorted({*sys.modules} - before) if _is_foreign(name)]
        sending.send((dict(recorder.seen), recorder.times, modules))
        return code

    def pytest(self, tests: Iterable[str], plugin: object) -> int:
        """Run tests in this process and return pytest's exit code."""
        return pytest.main([*PYTEST.split(), *tests], [plugin])

    def _fork(self, work: Callable[[], int]) -> BaseProcess:
        process = multiprocessing.get_context("fork").Process(target=self._inside, args=[work])
        process.start()
        return process

    def _inside(self, work: Callable[[], int]) -> None:
        os.setsid()  # so that one signal ends the mutant and whatever its tests have started
        output = os.open(self.scratch / str(os.getpid()), os.O_WRONLY | os.O_CREAT, 0o600)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        try:
            code = work()
        finally:
            sys.stdout.flush()
        os._exit(code)


def _is_foreign(name: str) -> bool:
    """Return whether a module is a library, which is imported once for all mutants."""
    file = getattr(sys.modules[name], "__file__", None) or ""
    installed = file.startswith(sys.base_prefix) or "/site-packages/" in file
    return installed and not name.startswith(("hypothesis", "_hypothesis", "pytest", "_pytest"))


def survivors(lab: Lab, chosen: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, str]]:
    """Try mutants, `jobs` at a time; yield each that survives, and why, as soon as it is known."""
    waiting = list(reversed(chosen))
    running: dict[int, tuple[Mutant, BaseProcess, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant = waiting.pop()
                if lab.covering(mutant):
                    process = lab.start(mutant)
                    running[process.sentinel] = mutant, process, time.monotonic() + lab.limit(mutant)
                else:
                    yield mutant, "no test executes it"
            ready = wait(running, 0.2)
            for key in [key for key, (*_, end) in running.items() if key in ready or time.monotonic() > end]:
                mutant, process, _ = running.pop(key)
                if reason := lab.survival(process, _end(process)):
                    yield mutant, reason
    finally:
        for _, process, _ in running.values():
            _end(process)


def _end(process: BaseProcess) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    return process.exitcode


def main(words: list[str] | None = None) -> int:
    """Run the program; return 0, or 1 if fewer mutants are killed than --fail-under demands."""
    options = _options(words)
    every = [mutant for path in options.modules for mutant in mutants(path)]
    draw = random.Random(options.seed).sample  # noqa: S311 - a sample, no secret
    chosen = [every[place] for place in sorted(draw(range(len(every)), min(options.sample, len(every))))]
    begun, alive = time.monotonic(), set[Mutant]()
    with _laboratory(options.tests) as lab:
        lab.observe(options.modules)
        print(f"{len(chosen)} of {len(every)} mutants; the tests took {sum(lab.times.values()):.1f} s")
        for mutant, reason in survivors(lab, chosen, options.jobs):
            alive.add(mutant)
            print(f"{mutant.path}:{mutant.line}: {mutant.change}  ({reason})", flush=True)
    for path in options.modules:
        _count(str(path), [mutant for mutant in chosen if mutant.path == path], alive)
    share = _count(f"total, in {time.monotonic() - begun:.0f} s", chosen, alive)
    return int(share < options.fail_under)


@contextlib.contextmanager
def _laboratory(tests: list[str]) -> Iterator[Lab]:
    # conftest.py's profile builds on this one. Shrinking an example would only tell how a mutant failed.
    few = [Phase.explicit, Phase.generate]
    settings.register_profile("mutants", database=None, derandomize=True, phases=few)
    settings.load_profile("mutants")
    with tempfile.TemporaryDirectory(prefix="m-") as scratch:  # a short name, since Unix sockets need one
        os.environ["TMPDIR"] = tempfile.tempdir = scratch
        yield Lab(Path(scratch), tests)


def _count(name: str, chosen: list[Mutant], alive: set[Mutant]) -> float:
    killed = len(set(chosen) - alive)
    share = 100 * killed / (len(chosen) or 1)
    print(f"{name}: {killed} of {len(chosen)} killed ({share:.0f} %)")
    return share


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("modules", nargs="+", type=Path, help="source files, relative to the project's root")
    add("--tests", nargs="+", default=["tests/unit"], help="test files and folders; default: tests/unit")
    add("--sample", type=int, default=40, help="how many mutants, over all modules; default: 40")
    add("--seed", type=int, default=0, help="chooses another sample")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="mutants tried at a time")
    add("--fail-under", type=float, default=0, metavar="PERCENT", help="exit code 1 below this share")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
