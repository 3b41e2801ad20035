"""Tab completion in real shells: tasks, their options, host names after --host, and never a start of Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TASKS = '''
from invoke.collection import Collection
from swarm.front.task import task

@task
def provision(_, host, yes=False, timeout=900):
    """Make a VM."""

@task(name="provide")
def provide(_, what=""):
    """Give something."""

@task(name="list", default=True)
def images_list(_, yes=False):
    """List images."""

@task(name="prune")
def images_prune(_, yes=False):
    """Remove images."""

namespace = Collection(provision, provide, images=Collection(images_list, images_prune))
'''

# What bash does at TAB: it splits the line (also at "="), calls the function and takes what is in COMPREPLY.
BASH = """
eval "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_swarm_inv
for word in "${COMPREPLY[@]}"; do printf '%s\\n' "$word"; done
"""


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, small_project: Callable[[Path, str], list[str]]
) -> Path:
    """Give a project with two tasks and two hosts."""
    folder = tmp_path_factory.mktemp("a project")
    small_project(folder, TASKS)
    (folder / "hosts").mkdir()
    for name in ("zap", "demo"):
        (folder / "hosts" / f"{name}.yaml").touch()
    (folder / "inv").touch()
    return folder


@pytest.fixture(scope="module")
def scripts(project: Path) -> dict[str, str]:
    """Give the script for each shell, as ./inv prints it."""
    return {shell: inv(project, "--print-completion-script", shell) for shell in ("bash", "zsh", "fish")}


def inv(project: Path, *words: str) -> str:
    """Run ./inv of the project and return what it wrote."""
    argv = [sys.executable, "-P", str(project / "swarm" / "__main__.py"), *words]
    return subprocess.run(argv, cwd="/", capture_output=True, text=True, check=True).stdout


def environment(project: Path) -> dict[str, str]:
    """Return an environment without other hosts and with a PATH in which no Python is found."""
    tools = project / "tools"
    tools.mkdir(exist_ok=True)
    return {"PATH": str(tools), "HOME": str(project), "LC_ALL": "C.UTF-8", "TERM": "xterm"}


def bash(project: Path, script: str, *words: str, cwd: Path | None = None, **more: str) -> list[str]:
    """Return what bash offers for the words, of which the last is being typed."""
    argv = [shutil.which("bash") or "bash", "--norc", "-c", BASH, "bash", script, *words]
    given = environment(project) | more
    return subprocess.run(
        argv, cwd=cwd or project, env=given, capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["./inv", ""], ["provision", "provide", "images.list", "images", "images.prune"]),
        (["./inv", "images."], ["images.list", "images.prune"]),
        (["./inv", "images.prune", "--"], ["--yes", "--help"]),
        (["./inv", "provis"], ["provision"]),
        (["./inv", "--vers"], ["--version"]),
        (["./inv", "--help", "provid"], ["provide"]),
        (["./inv", "provision", "--"], ["--host", "--timeout", "--yes", "--help"]),
        (["./inv", "provide", "--"], ["--what", "--help"]),
        (["./inv", "provision", "--yes", "provide", "--"], ["--what", "--help"]),
        (["./inv", "provision", "--host", ""], ["demo", "zap", "all"]),
        (["./inv", "provision", "--host", "z"], ["zap"]),
        (["./inv", "provision", "--host", "="], ["demo", "zap", "all"]),
        (["./inv", "provision", "--host", "=", "d"], ["demo"]),
        (["./inv", "provision", "--host", "zap,"], ["zap,demo"]),
        (["./inv", "provision", "--host", "provide", "--"], ["--host", "--timeout", "--yes", "--help"]),
        (["./inv", "provision", "--timeout", ""], []),
        (["./inv", "provision", "--", "--"], []),
    ],
)
def test_bash_offers_what_can_follow(
    project: Path, scripts: dict[str, str], words: list[str], offered: list[str]
) -> None:
    """Bash offers exactly the completions that are valid at the cursor."""
    assert bash(project, scripts["bash"], *words) == offered


def test_bash_completes_from_any_folder(project: Path, scripts: dict[str, str], tmp_path: Path) -> None:
    """Both `inv` and a path to ./inv are completed, in the project, below it and elsewhere."""
    for program, cwd in (
        ("inv", project / "hosts"),
        ("../inv", project / "hosts"),
        ("inv", tmp_path),
        ("~/inv", tmp_path),
    ):
        assert bash(project, scripts["bash"], program, "provision", "--host", "z", cwd=cwd) == ["zap"]


def test_bash_reads_hosts_from_the_configured_folder(
    project: Path, scripts: dict[str, str], tmp_path: Path
) -> None:
    """Hosts are read from SWARM_HOSTS if it is set."""
    (tmp_path / "bee.yaml").touch()
    assert bash(project, scripts["bash"], "./inv", "provision", "--host", "", SWARM_HOSTS=str(tmp_path)) == [
        "bee",
        "all",
    ]


def test_new_tasks_are_offered_after_the_next_run(project: Path, scripts: dict[str, str]) -> None:
    """A change of tasks.py reaches the list with the next run of ./inv, whatever it does."""
    text = (project / "tasks.py").read_text(encoding="utf-8")
    fresh = "@task\ndef fresh(_):\n    pass\nnamespace.add_task(fresh)\n"
    (project / "tasks.py").write_text(f"{text}\n{fresh}", encoding="utf-8")
    os.utime(project / ".setup" / "words", (0, 0))
    assert bash(project, scripts["bash"], "./inv", "fre") == []
    inv(project, "--list")
    assert bash(project, scripts["bash"], "./inv", "fre") == ["fresh"]


def test_new_tasks_of_a_collection_reach_the_list(
    tmp_path: Path, small_project: Callable[[Path, str], list[str]]
) -> None:
    """A change of a module in swarm/namespace reaches the list with the next run, although tasks.py is as before."""
    small_project(tmp_path, "from swarm.namespace.own import namespace\n")
    own, words = tmp_path / "swarm" / "namespace" / "own.py", tmp_path / ".setup" / "words"
    own.write_text(TASKS, encoding="utf-8")
    inv(tmp_path, "--list")
    own.write_text(TASKS.replace("images_prune(_, yes", "images_prune(_, plan"), encoding="utf-8")
    inv(tmp_path, "--list")
    assert "images.prune|--plan --help|Remove images." in words.read_text(encoding="utf-8").splitlines()


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("./inv provid", ["provide\tGive something."]),
        ("./inv provision --host ", ["all", "demo", "zap"]),
        ("./inv provision --host=zap,", ["--host=zap,demo"]),
        ("inv provide --", ["--help", "--what"]),
    ],
)
def test_fish_offers_what_can_follow(
    project: Path, scripts: dict[str, str], line: str, offered: list[str]
) -> None:
    """The same in fish, where tasks carry their sentence."""
    argv = [shutil.which("fish") or "fish", "--no-config", "-c", f"{scripts['fish']}\ncomplete -C {line!r}"]
    done = subprocess.run(
        argv, cwd=project, env=environment(project), capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.splitlines()) == offered


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_can_read_its_script(project: Path, scripts: dict[str, str]) -> None:
    """The script for zsh defines a completion for inv."""
    argv = [
        shutil.which("zsh") or "zsh",
        "-f",
        "-c",
        f"autoload -Uz compinit; compinit -D -u\n{scripts['zsh']}\nprint $_comps[inv]",
    ]
    done = subprocess.run(
        argv, cwd=project, env=environment(project), capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("_swarm_inv\n", "")


# Names that a shell would run if it ever expanded them. In each, the current folder gets a file called ran.
HOSTILE = ["$(touch ran)", "`touch ran`", "a;touch ran", "x'$(touch ran)'", "a b", "-x", "é"]

# Stands in for zsh's completion system: shows what is offered.
ZSH = """
compdef() { :; }
compset() { [[ $2 == '*,' ]] || return 0; }
compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -l -- "$@"; }
_describe() { print -l -- ${(P)2}; }
eval "$1"; shift
words=("$@") CURRENT=$#
_swarm_inv
"""


def offered(shell: str, project: Path, script: str, line: str, cwd: Path, **more: str) -> str:
    """Return what a shell offers after `line`."""
    words = [*line.split(), ""]
    given = environment(project) | {"PATH": os.environ["PATH"]} | more
    argv = {
        "bash": [BASH, "bash", script, *words],
        "zsh": [ZSH, "zsh", script, *words],
        "fish": [f"{script}\ncomplete -C '{line} '"],
    }[shell]
    plain = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell]
    done = subprocess.run(
        [shutil.which(shell) or shell, plain, "-c", *argv],
        cwd=cwd,
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest) -> str:
    """Give each shell that is installed."""
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def test_a_hostile_host_file_name_has_no_effect(
    shell: str, project: Path, scripts: dict[str, str], tmp_path: Path
) -> None:
    """Only file names that can be hosts' names are offered; the others are neither offered nor run."""
    for name in ("zap", *HOSTILE):
        (tmp_path / f"{name}.yaml").touch()
    text = offered(
        shell, project, scripts[shell], "./inv provision --host", project, SWARM_HOSTS=str(tmp_path)
    )
    assert {"zap", "all"} <= set(text.split())
    assert not {"touch", "ran", "é"} & set(text.replace("`", " ").replace("(", " ").split())
    assert not (project / "ran").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("program", ["inv", "./inv"])
def test_a_planted_project_is_ignored(
    shell: str, program: str, project: Path, scripts: dict[str, str], tmp_path: Path
) -> None:
    """A folder that other users can write to, as /tmp is, does not replace the project of the script."""
    planted = tmp_path / "planted"
    (planted / ".setup").mkdir(parents=True)
    (planted / "hosts").mkdir()
    for name in ("inv", "tasks.py", "hosts/evil.yaml"):
        (planted / name).touch()
    (planted / ".setup" / "words").write_text(
        "-||\nevil|--host= $(touch ran)|x\nbad$(touch ran)||\n", encoding="utf-8"
    )
    planted.chmod(0o1777)
    text = offered(shell, project, scripts[shell], program, planted)
    assert "provision" in text
    assert "evil" not in text
    assert not (planted / "ran").exists()


def test_a_second_clone_of_the_user_s_own_is_used(
    shell: str, project: Path, scripts: dict[str, str], tmp_path: Path
) -> None:
    """In another clone that only its owner can write to, that clone's valid task names are offered."""
    (tmp_path / ".setup").mkdir()
    for name in ("inv", "tasks.py"):
        (tmp_path / name).touch()
    (tmp_path / ".setup" / "words").write_text("-||\nother|--host=|x\nbad$(touch ran)||\n", encoding="utf-8")
    tmp_path.chmod(0o755)
    text = offered(shell, project, scripts[shell], "inv", tmp_path)
    assert "other" in text
    assert "bad" not in text
    assert not (tmp_path / "ran").exists()
