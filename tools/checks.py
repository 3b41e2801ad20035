"""The checks of `inv lint`. Each one is also a pre-commit hook: `python -m tools.checks NAME` runs only that check."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Check", "checks", "lock_problems", "long_files", "long_functions", "long_lines", "main"]

RELOCK = ".venv/bin/uv pip compile --group dev pyproject.toml -q -o requirements.lock"  # [tool.uv.pip] has its options
FILE = 350  # lines of a file; a longer one has more than one purpose
LINE = 120  # characters of a line; ruff formats code to 110
BREAK = "break the line, or state in a comment before it why it is one: `long line: REASON`"
SHELL = (".sh", ".bash", ".fish", ".zsh")
DATA = (".toml", ".j2", ".cjs", ".css", ".yaml")
EXEMPT = "long line: "  # a comment with these words and a reason allows the next line to be long
MEDIAN, MOST = 8, 22  # lines of the middle function, and of 90 % of all functions
PYTHON = ("swarm", "tasks.py", "tests", "bench", "tools")
SCRIPTS = (
    "inv",
    ".ci/run",
    "completion/inv.bash",
    "swarm/ssh/jump.sh",
    "templates/image/root/etc/initramfs-tools/hooks/swarm",
    "tests/docker/standin/database.sh",
    "tools/litellm/schema-engine.sh",
)
SOURCED = "templates/guest/prelude"  # a folder of functions that use each other, and are sent as one script


@dataclass(frozen=True)
class Check:
    """One rule. `run` returns the violations as text, empty if there are none; `remedy` says how to fix them."""

    name: str
    title: str
    run: Callable[[], str]
    remedy: str


def checks() -> tuple[Check, ...]:
    """Return every check."""
    return (*_tools(), *_own())


def _tools() -> tuple[Check, ...]:
    sources = [name for name in PYTHON if (ROOT / name).is_file() or any((ROOT / name).rglob("*.py"))]
    return (
        Check("mypy", "types: mypy", _program("mypy", *sources), "add or correct the annotations"),
        Check(
            "ruff-check",
            "rules: ruff check",
            _program("ruff", "check", "--output-format=concise"),
            "run `.venv/bin/ruff check --fix`, and fix the rest by hand",
        ),
        Check(
            "ruff-format",
            "format: ruff format",
            _program("ruff", "format", "--check", "--output-format=concise"),
            "run `.venv/bin/ruff format`",
        ),
        Check(
            "shellcheck", "shell: shellcheck", _shell, "look up the code, like SC2086, in shellcheck's wiki"
        ),
        Check(
            "lint-imports",
            "layers: lint-imports",
            _program("lint-imports"),
            "import only from lower layers; [tool.importlinter] in pyproject.toml lists them",
        ),
    )


def _own() -> tuple[Check, ...]:
    return (
        Check("files", "length of files", lambda: "\n".join(long_files()), "split the file by purpose"),
        Check("lines", "length of lines", lambda: "\n".join(long_lines()), BREAK),
        Check(
            "functions",
            "length of functions",
            lambda: "\n".join(long_functions()),
            "split the longest functions by purpose",
        ),
        Check(
            "lock",
            "requirements.lock",
            lambda: "\n".join(lock_problems()),
            f"lock again: `{RELOCK}`; URLs and options belong in the user's own settings",
        ),
        Check(
            "schema",
            "hosts/schema.json",
            _schema,
            "generate it: `.venv/bin/python -m swarm.inventory > hosts/schema.json`",
        ),
    )


def _program(name: str, *arguments: str, text: str = "") -> Callable[[], str]:
    """Return a check that runs a program of the virtual environment with `text` on stdin: its output if it fails."""

    def run() -> str:
        argv = [str(Path(sys.executable).parent / name), *arguments]
        done = subprocess.run(argv, cwd=ROOT, input=text, capture_output=True, text=True, check=False)
        output = (done.stdout + done.stderr).strip() or f"exit code {done.returncode}"
        return output if done.returncode else ""

    return run


def _shell() -> str:
    scripts = [name for name in SCRIPTS if (ROOT / name).exists()]
    outside = "--exclude=SC1091"  # a script may source a file of another system
    functions = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / SOURCED).glob("*.sh")))
    found = (
        _program("shellcheck", outside, *scripts)(),
        _program("shellcheck", "--shell=sh", "-", text=functions)(),
    )
    return "\n".join(filter(None, found))


def _sources(root: Path, *suffixes: str) -> Iterator[Path]:
    """Yield the project's own files with these suffixes, and its scripts without a suffix."""
    for folder in ("swarm", "tests", "bench", "tools", "hooks", "completion", "templates", "systemd"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in suffixes and "node_modules" not in path.parts and path.is_file():
                yield path
    for name in ("tasks.py", "inv", ".ci/run", "pyproject.toml", "litellm/compose.yaml"):
        path = root / name
        if path.suffix in {"", *suffixes} and path.is_file():
            yield path


def long_files(root: Path = ROOT) -> Iterator[str]:
    """Yield a sentence for each file of Python or TypeScript, and each script, that is too long."""
    for path in _sources(root, ".py", ".ts", *SHELL):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE:
            yield f"{path.relative_to(root)}: {lines} lines; at most {FILE} are allowed"


def long_lines(root: Path = ROOT) -> Iterator[str]:
    """Yield a sentence for each line that is too long, unless the line before it is a comment that says why."""
    for path in _sources(root, ".py", ".ts", *SHELL, *DATA):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, (before, line) in enumerate(zip(["", *lines], lines, strict=False), 1):
            if len(line) > LINE and EXEMPT not in before:
                yield f"{path.relative_to(root)}:{number}: {len(line)} characters; at most {LINE} are allowed"


def long_functions(root: Path = ROOT) -> Iterator[str]:
    """Yield a sentence for each limit that the functions in swarm/ exceed, with the longest ones.

    A function's length is from its `def` to its end, without the docstring.
    """
    lengths = sorted(
        (_length(node), f"{path.relative_to(root)}:{node.lineno}: {node.name}")
        for path in (root / "swarm").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    longer = [f"{name} has {length} lines" for length, name in reversed(lengths) if length > MOST]
    if lengths and (median := statistics.median(length for length, _ in lengths)) > MEDIAN:
        yield f"the median is {median:g} lines; at most {MEDIAN} are allowed"
    if (excess := len(longer) - len(lengths) // 10) > 0:
        yield f"{len(longer)} of {len(lengths)} functions have more than {MOST} lines, {excess} too many"
        yield from longer[:20]


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    docstring = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(function) else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def lock_problems(root: Path = ROOT) -> Iterator[str]:
    """Yield a sentence for each way in which requirements.lock differs from pyproject.toml. It needs no network."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    text = (root / "requirements.lock").read_text(encoding="utf-8")
    yield from _unlocked((*project["project"]["dependencies"], *project["dependency-groups"]["dev"]), text)
    for number, line in enumerate(text.splitlines(), 1):
        if "://" in line or re.match(r"-|.* @ ", line):
            yield f"requirements.lock:{number}: contains a URL or an option"
    for block in re.split(r"\n(?=\S)", text):
        if re.match(r"[A-Za-z0-9]", block) and "--hash=sha256:" not in block:
            yield f"requirements.lock: {block.split()[0]} has no hash"


def _unlocked(requirements: Sequence[str], text: str) -> Iterator[str]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\\n]+)", text, re.MULTILINE))
    for line in requirements:
        required = Requirement(line)
        version = locked.get(canonicalize_name(required.name))
        if version is None:
            yield f"requirements.lock: {required.name} is missing, but pyproject.toml requires it"
        elif not required.specifier.contains(version, prereleases=True):
            needed = required.specifier
            yield f"requirements.lock: {required.name} is {version}, but pyproject.toml requires {needed}"


def _schema() -> str:
    path = ROOT / "hosts" / "schema.json"
    argv = [sys.executable, "-m", "swarm.inventory"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr
    same = path.is_file() and path.read_text(encoding="utf-8") == done.stdout
    return "" if same else "hosts/schema.json differs from the schema that swarm/inventory generates"


def main(names: Sequence[str]) -> int:
    """Run the checks with these names and write their findings to stderr.

    Return the exit code: 0 without findings, 1 with any, 2 for an unknown name.
    """
    known = {check.name: check for check in checks()}
    if unknown := sorted(set(names) - set(known)):
        sys.stderr.write(f"unknown check: {', '.join(unknown)}\nhint: choose from: {', '.join(known)}\n")
        return 2
    found = {name: known[name].run().strip() for name in names}
    for name, text in found.items():
        if text:
            sys.stderr.write(f"{text}\nhint: {known[name].remedy}\n")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
