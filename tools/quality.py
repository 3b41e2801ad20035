"""What `inv test` and `inv lint` do: the tests, and the checks that keep the project's own rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from swarm.errors import SwarmError, UsageError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["bench", "lint", "test"]

RELOCK = ".venv/bin/uv pip compile --group dev pyproject.toml -q -o requirements.lock"  # its options are in [tool.uv.pip]
LONGEST = 350  # lines of a file; what is longer has more than one purpose

QUICK = ("unit", "integration")
EVERYTHING = (*QUICK, "nspawn", "vm")  # not "guest", which is what `inv verify` runs on a host


def test(*, quick: bool = False, k: str | None = None, words: Sequence[str] = ()) -> NoReturn:  # noqa: PT028 - it is the command `test`, not a test
    """Become pytest, whose exit code is then that of the command.

    `quick` runs only tests/unit and tests/integration, without what is marked slow; `k` is pytest's expression for names;
    `words` are further arguments for pytest, and if one of them is a test file or folder (seen from the current folder),
    only that is run.
    """
    chosen = [word for word in words if not word.startswith("-") and Path(word.split("::")[0]).exists()]
    folders = [path for name in (QUICK if quick else EVERYTHING) if (path := ROOT / "tests" / name).is_dir()]
    argv = [sys.executable, "-P", "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    argv += ["-m", "not slow"] if quick else []
    # Side by side, file by file, since what a file's tests share is made once. Not when somebody looks closely: --pdb needs one process.
    argv += (
        ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"] if quick and not (k or words) else []
    )
    argv += ["-k", k] if k else []
    argv += words
    argv += [] if chosen else map(str, folders)
    # Not a child, so that Ctrl-C and SIGTERM reach pytest itself, which then stops what the tests have started.
    os.execv(sys.executable, argv)  # noqa: S606 - a list of arguments, no shell


def bench(name: str, words: Sequence[str] = ()) -> NoReturn:
    """Become the program bench/NAME.py, with `words` as its arguments. Raise UsageError if there is none of that name."""
    path = ROOT / "bench" / f"{name}.py"
    known = sorted(path.stem for path in (ROOT / "bench").glob("[a-z]*.py"))
    if name not in known:
        raise UsageError(
            f"there is no {path.relative_to(ROOT)}", f"there is: {', '.join(known) or 'nothing yet'}"
        )
    # -P and the path: what bench/ holds must not hide modules of the same name, and swarm must be found.
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    os.execve(sys.executable, [sys.executable, "-P", str(path), *words], environment)  # noqa: S606 - as above


@dataclass(frozen=True)
class Check:
    """One rule: `run` returns what breaks it, as text (empty: nothing), and `remedy` says how to mend that."""

    name: str
    run: Callable[[], str]
    remedy: str


def lint() -> int:
    """Run every check, show what each one found, and return 0 if none found anything, else 1."""
    from swarm.console import Talk, screen

    talk, checks = Talk(screen()), _checks()

    def found_by(check: Check) -> str:
        with talk.step(check.name, silent=True):
            return check.run().strip()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(checks, pool.map(found_by, checks), strict=True))
    for check, text in found.items():
        if text:
            talk.say(f"\n── {check.name}\n{text}")
    talk.say("")
    for check, text in found.items():
        if text:
            talk.screen.error(SwarmError(check.name, check.remedy))
        else:
            talk.done(check.name)
    return int(any(found.values()))


def _checks() -> tuple[Check, ...]:
    places = ("swarm", "tasks.py", "tests", "bench", "tools")
    sources = [name for name in places if (ROOT / name).is_file() or any((ROOT / name).rglob("*.py"))]
    scripts = [name for name in ("inv", ".ci/run", "completion/inv.bash") if (ROOT / name).exists()]
    return (
        Check("types: mypy", _program("mypy", *sources), "state the types that it names"),
        Check(
            "rules: ruff check",
            _program("ruff", "check", "--output-format=concise"),
            "`.venv/bin/ruff check --fix` mends some of them",
        ),
        Check(
            "format: ruff format",
            _program("ruff", "format", "--check", "--output-format=concise"),
            "run `.venv/bin/ruff format`",
        ),
        Check(
            "shell: shellcheck",
            _program("shellcheck", *scripts),
            "each code, like SC2086, has a page in shellcheck's wiki",
        ),
        Check("length of files", lambda: "\n".join(_too_long()), "split the file by purpose"),
        Check("requirements.lock", lambda: "\n".join(_lock_problems()), f"lock again: `{RELOCK}`"),
        Check(
            "hosts/schema.json",
            _schema,
            "write it anew: `.venv/bin/python -m swarm.inventory > hosts/schema.json`",
        ),
        Check(
            "layers: lint-imports",
            _program("lint-imports"),
            "move what is needed down, or its user up; [tool.importlinter] has the layers",
        ),
    )


def _program(name: str, *words: str) -> Callable[[], str]:
    """Return a check that a program of the virtual environment makes: what it says, if it ends with an error."""

    def run() -> str:
        argv = [str(Path(sys.executable).parent / name), *words]
        done = subprocess.run(
            argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return (
            (done.stdout + done.stderr).strip() or f"exit code {done.returncode}" if done.returncode else ""
        )

    return run


def _own_files() -> Iterator[Path]:
    for folder in ("swarm", "tests", "bench", "tools", "hooks"):
        for suffix in ("py", "ts"):
            yield from (
                path
                for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
                if "node_modules" not in path.parts
            )
    yield from (path for name in ("tasks.py", "inv", ".ci/run") if (path := ROOT / name).is_file())


def _too_long() -> Iterator[str]:
    for path in _own_files():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST:
            yield f"{path.relative_to(ROOT)}: {lines} lines, at most {LONGEST} are allowed"


def _lock_problems(root: Path = ROOT) -> Iterator[str]:
    """Each way in which requirements.lock is not what pyproject.toml asks for, found without a network."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    text = (root / "requirements.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\\n]+)", text, re.MULTILINE))
    for line in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"]):
        wish = Requirement(line)
        version = locked.get(canonicalize_name(wish.name))
        if version is None:
            yield f"requirements.lock: {wish.name} of pyproject.toml is not in it"
        elif not wish.specifier.contains(version, prereleases=True):
            yield f"requirements.lock: {wish.name} is {version}, but pyproject.toml wants {wish.specifier}"
    for number, line in enumerate(text.splitlines(), 1):
        if "://" in line or re.match(r"-|.* @ ", line):
            yield f"requirements.lock:{number}: an address or an option; where packages come from is each person's own setting"
    for block in re.split(r"\n(?=\S)", text):
        if re.match(r"[A-Za-z0-9]", block) and "--hash=sha256:" not in block:
            yield f"requirements.lock: {block.split()[0]} has no hash"


def _schema() -> str:
    path = ROOT / "hosts" / "schema.json"
    done = subprocess.run(
        [sys.executable, "-m", "swarm.inventory"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return done.stderr
    same = path.is_file() and path.read_text(encoding="utf-8") == done.stdout
    return "" if same else "hosts/schema.json is not what the classes of swarm/inventory state"
