"""inv lint: each of its own checks reports what it is for and accepts what is right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from swarm.errors import UsageError
from swarm.paths import ROOT
from tools import checks, quality

PROJECT = """
[project]
dependencies = ["rich>=15", "ruamel-yaml>=0.19"]
[dependency-groups]
dev = ["ruff>=0.17"]
"""
HASH = " \\\n    --hash=sha256:" + 64 * "0"
LOCK = f"rich==15.0.1{HASH}\n    # via swarm\nruamel-yaml==0.19{HASH}\nruff==0.17.2 ; sys_platform == 'linux'{HASH}\n"


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        (LOCK, None),
        (
            LOCK.replace("ruff==0.17.2", "rough==0.17.2"),
            "requirements.lock: ruff is missing, but pyproject.toml requires it",
        ),
        (LOCK.replace("15.0.1", "14.9"), "requirements.lock: rich is 14.9, but pyproject.toml requires >=15"),
        (
            LOCK.replace(f"ruamel-yaml==0.19{HASH}", "ruamel-yaml==0.19"),
            "requirements.lock: ruamel-yaml==0.19 has no hash",
        ),
        (f"--index-url somewhere\n{LOCK}", "requirements.lock:1: contains a URL or an option"),
        (LOCK + f"thing @ file:///tmp/thing.whl{HASH}\n", "requirements.lock:8: contains a URL or an option"),
    ],
)
def test_the_lock_file_fits_the_project_and_holds_no_address(
    tmp_path: Path, lock: str, problem: str | None
) -> None:
    """A dependency that is missing, too old or without a hash is named, and so is any URL."""
    (tmp_path / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "requirements.lock").write_text(lock, encoding="utf-8")
    found = list(checks.lock_problems(tmp_path))
    assert [line.startswith(problem or "-") for line in found] == ([True] if problem else [])


def project(folder: Path, name: str, text: str) -> Path:
    """Return a folder that holds one file."""
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return folder


NAMES = ["swarm/a.py", "hooks/a.ts", "templates/guest/a.sh", "templates/a.j2", "systemd/a.j2", "tools/a.cjs"]


@pytest.mark.parametrize("name", NAMES)
def test_a_long_line_is_named(tmp_path: Path, name: str) -> None:
    """A line may have 120 characters, however many bytes those are, and more only after a comment that says why."""
    project(tmp_path, name, f"{'é' * 120}\n{'x' * 121}\n# long line: a URL\n{'x' * 121}\n")
    assert list(checks.long_lines(tmp_path)) == [f"{name}:2: 121 characters; at most 120 are allowed"]


@pytest.mark.parametrize("name", ["tests/a.py", "templates/a.sh"])
@pytest.mark.parametrize(("lines", "found"), [(350, []), (351, ["351 lines; at most 350 are allowed"])])
def test_a_long_file_is_named(tmp_path: Path, name: str, lines: int, found: list[str]) -> None:
    """A file may have 350 lines and no more."""
    assert list(checks.long_files(project(tmp_path, name, "x\n" * lines))) == [
        f"{name}: {each}" for each in found
    ]


def functions(*lengths: int) -> str:
    """Return a module with functions of these lengths. Each also has a docstring of two lines."""
    body = "    pass\n"
    return "".join(
        f"def f{number}():\n" + '    """Two\n    lines."""\n' + body * (length - 1)
        for number, length in enumerate(lengths)
    )


@pytest.mark.parametrize(
    ("lengths", "found"),
    [
        ([8] * 9 + [23], []),
        ([8] * 8 + [23] * 2, ["2 of 10 functions have more than 22 lines, 1 too many"]),
        ([8] * 4 + [9] * 6, ["the median is 9 lines; at most 8 are allowed"]),
        ([], []),
    ],
)
def test_long_functions_are_counted(tmp_path: Path, lengths: list[int], found: list[str]) -> None:
    """One function in ten may have more than 22 lines, docstrings not counted, and the median is 8 at most."""
    problems = list(checks.long_functions(project(tmp_path, "swarm/a.py", functions(*lengths))))
    assert [line for line in problems if not line.startswith("swarm/a.py:")] == found
    named = [line for line in problems if line.startswith("swarm/a.py:")]
    assert len(named) == (lengths.count(23) if found and "22" in found[0] else 0)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("errors.py", "from swarm.console import Talk"),
        ("hypervisor/domain.py", "from swarm.vm import observe"),
        ("vm/shape.py", "def late():\n    import tools.quality\n"),
    ],
)
def test_an_upward_import_breaks_the_layers(tmp_path: Path, module: str, line: str) -> None:
    """lint-imports names a module that imports from a higher layer, or the developers' tools, in a function too."""
    for name in ("swarm", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "swarm" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    argv = [str(Path(sys.executable).parent / "lint-imports")]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stdout
    assert f"swarm.{module.removesuffix('.py').replace('/', '.')} -> " in done.stdout


def test_a_clean_tree_keeps_the_layers() -> None:
    """lint-imports accepts the project as it stands."""
    assert checks.main(["lint-imports"]) == 0


def test_pre_commit_runs_every_check() -> None:
    """The hooks of .pre-commit-config.yaml are exactly the checks of `inv lint`, under the same titles."""
    config = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    assert [(hook["id"], hook["name"]) for hook in hooks] == [
        (check.name, check.title) for check in checks.checks()
    ]
    assert [hook["entry"] for hook in hooks] == [
        f".venv/bin/python -m tools.checks {check.name}" for check in checks.checks()
    ]
    assert not [hook for hook in hooks if hook["pass_filenames"] or hook["language"] != "system"]


def test_a_hook_ends_with_its_findings(capfd: pytest.CaptureFixture[str]) -> None:
    """One check alone exits with 0, or with 2 and the known names if its name is unknown."""
    assert checks.main(["schema"]) == 0
    assert checks.main(["spelling"]) == 2
    assert "hint: choose from: mypy, ruff-check" in capfd.readouterr().err


def test_words_for_pytest_choose_what_is_run(tmp_path: Path) -> None:
    """`inv test -- FILE` runs that file alone, named from the caller's folder, and its outcome is the exit code."""
    text = '"""Two tests."""\n\ndef test_right():\n    pass\n\ndef test_wrong():\n    assert False\n'
    (tmp_path / "test_two.py").write_text(text, encoding="utf-8")
    for words, code in ((["test_two.py::test_right"], 0), (["test_two.py"], 1)):
        program = f"from tools import quality; quality.test(quick=True, words={['-q', *words]!r})"
        argv = [sys.executable, "-c", program]
        done = subprocess.run(
            argv,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        assert "1 passed" in done.stdout


def test_an_unknown_bench_is_named() -> None:
    """The name of a program that bench/ does not hold is refused with those that it holds."""
    with pytest.raises(UsageError, match=r"there is no bench/nothing\.py"):
        quality.bench("nothing")
