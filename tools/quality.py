"""The commands of developers: `inv test`, `inv lint` and `inv bench`."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from swarm.errors import SwarmError, UsageError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.checks import Check

__all__ = ["bench", "lint", "test"]

QUICK = ("unit", "integration")
# The longest first, so that the processes end at about the same time. Not "guest", whose tests `inv verify` runs.
EVERYTHING = ("vm", "nspawn", "docker", "litellm", *QUICK)


def test(  # the command `test`, not a test
    *,
    quick: bool = False,  # noqa: PT028
    k: str | None = None,  # noqa: PT028
    words: Sequence[str] = (),  # noqa: PT028
) -> NoReturn:
    """Replace this process with pytest, whose exit code becomes the command's.

    `quick` selects tests/unit and tests/integration without the tests marked slow. `k` is pytest's expression for test
    names. `words` are further arguments for pytest. If one of them names a test file or folder, relative to the current
    folder, only that is run.
    """
    chosen = [word for word in words if not word.startswith("-") and Path(word.split("::")[0]).exists()]
    folders = [path for name in (QUICK if quick else EVERYTHING) if (path := ROOT / "tests" / name).is_dir()]
    if not quick:
        from swarm.console import Talk, screen
        from tools import packages

        packages.install(Talk(screen()))
    argv = [sys.executable, "-P", "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    argv += ["-m", "not slow"] if quick else []
    if not (k or words):  # with words or names there may be a --pdb, which needs a single process
        argv += _side_by_side(quick=quick)
    argv += ["-k", k] if k else []
    argv += words
    argv += [] if chosen else map(str, folders)
    # Not a child process, so that Ctrl-C and SIGTERM reach pytest itself, which then stops what the tests have started.
    os.execv(sys.executable, argv)  # noqa: S606 - a list of arguments, no shell


def _side_by_side(*, quick: bool) -> list[str]:
    """Pytest's options for several processes. Tests that share fixtures stay in one: see tests/conftest.py."""
    if quick:
        return ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"]
    # The VM's emulation keeps up to two cores busy. A third process was no faster on two.
    return ["--numprocesses=2", "--dist=loadscope", "--no-loadscope-reorder"]


def bench(name: str, words: Sequence[str] = ()) -> NoReturn:
    """Replace this process with the program bench/NAME.py. `words` are its arguments.

    Raise UsageError if there is no such program.
    """
    path = ROOT / "bench" / f"{name}.py"
    known = sorted(path.stem for path in (ROOT / "bench").glob("[a-z]*.py"))
    if name not in known:
        raise UsageError(
            f"there is no {path.relative_to(ROOT)}", f"choose from: {', '.join(known) or 'nothing yet'}"
        )
    # -P and PYTHONPATH: a file in bench/ must not shadow a module of the same name, and swarm must be found.
    search = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": search}
    os.execve(sys.executable, [sys.executable, "-P", str(path), *words], environment)  # noqa: S606 - as above


def lint() -> int:
    """Run every check, show its findings, and return 1 if there are any, else 0."""
    from swarm.console import Talk, screen
    from tools.checks import checks

    talk, every = Talk(screen()), checks()

    def findings(check: Check) -> str:
        with talk.step(check.title, silent=True):
            return check.run().strip()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(every, pool.map(findings, every), strict=True))
    for check, text in found.items():
        if text:
            talk.say(f"\n── {check.title}\n{text}")
    talk.say("")
    for check, text in found.items():
        if text:
            talk.screen.error(SwarmError(check.title, check.remedy))
        else:
            talk.done(check.title)
    return int(any(found.values()))
