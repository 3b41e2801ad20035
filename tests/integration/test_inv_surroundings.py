"""The real ./inv where its surroundings are odd: files in hosts/ that are no host files, and users without a home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs

UNNAMED = 54321  # a user that the system does not know


def inv(*words: str, user: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run what ./inv starts, outside the project, and return what it wrote."""
    command = [sys.executable, "-P", str(ROOT / "swarm" / "__main__.py"), *words]
    return subprocess.run(
        command,
        cwd="/",
        env={**os.environ, **environment} if user is None else {"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


@pytest.fixture
def odd(dirs: Dirs) -> Dirs:
    """Give a hosts folder with the demo host and nine entries that are no host files, or have no host's name."""
    demo = ROOT / "hosts" / "demo.yaml"
    names = [b"demo.yaml", b"all.yaml", b"Odd Name.yaml", b"esc\x1b[31m.yaml", b"\xff.yaml"]
    for name in names:
        shutil.copy(demo, dirs.hosts / os.fsdecode(name))
    (dirs.hosts / "broken.yaml").write_text("vm: [\n", encoding="ascii")
    (dirs.hosts / "latin.yaml").write_bytes(b"vm: caf\xe9\n")
    (dirs.hosts / "folder.yaml").mkdir()
    (dirs.hosts / "dangling.yaml").symlink_to("nowhere")
    os.mkfifo(dirs.hosts / "fifo.yaml")
    return dirs


@pytest.mark.parametrize(
    "words",
    [
        "hosts",
        "hosts --json",
        "images",
        "plan --host all --only backup",
        "status --html {0}/page --prometheus {0}/metrics",
        "status --json",
    ],
)
def test_files_that_are_no_host_files_hide_no_good_one(odd: Dirs, words: str) -> None:
    """Each of them is an error in one sentence, the good host is shown, and no name acts on the terminal."""
    done = inv(*words.format(odd.cache).split())
    assert "demo" in done.stdout or words == "images", done.stderr
    assert done.returncode == 1
    for name in ("broken", "latin", "folder", "dangling", "fifo", "all", "Odd Name"):
        assert f"/{name}.yaml" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    if "--html" in words:
        assert "demo" in (odd.cache / "page").read_text(encoding="utf-8")
        assert 'swarm_host_up{host="demo"}' in (odd.cache / "metrics").read_text(encoding="utf-8")


@pytest.fixture
def readable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of a user without a name. Skip where tests can't become another user, or it can't read swarm."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = tmp_path_factory.mktemp("unnamed")
    os.chown(folder, UNNAMED, UNNAMED)
    seen = [sys.executable, "-P", "-c", f"open({str(ROOT / 'tasks.py')!r})"]
    try:
        done = subprocess.run(
            seen, user=UNNAMED, group=UNNAMED, extra_groups=[], capture_output=True, check=False
        )
    except PermissionError:  # not even Python, as in a clone below /root
        pytest.skip("another user can't enter this project")
    if done.returncode:
        pytest.skip("another user can't read this project")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        "hosts",
        "status",
        "plan --host demo",
        "timers.status",
        "timers.remove --host demo",
        "hosts --check",
        "customize --host demo",
        "litellm.status",
        "status --html ~nobody-at-all/page",
    ],
)
@pytest.mark.usefixtures("readable")
def test_a_user_without_name_or_home_gets_sentences(words: str) -> None:
    """Without HOME, and with a user number that no one has, each command works or says what is missing."""
    done = inv(*words.split(), user=UNNAMED)
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr


def test_a_terminal_without_columns_hides_no_error(dirs: Dirs) -> None:
    """COLUMNS=0, which programs set where a terminal's size is not known, does not swallow the messages."""
    done = inv("plan", "--host", "nosuch", COLUMNS="0", SWARM_HOSTS=str(dirs.hosts))
    assert done.returncode == 1
    assert "error: there is no host 'nosuch'" in done.stderr


def test_without_the_program_ssh(dirs: Dirs, tmp_path: Path) -> None:
    """`./inv ssh` on a computer without ssh says which package has it."""
    shutil.copy(ROOT / "hosts" / "demo.yaml", dirs.hosts)
    (dirs.hosts / "demo.known_hosts").write_text("demo ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ\n")
    done = inv("ssh", "--host", "demo", PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the program ssh is missing",
        "  hint: apt-get install openssh-client",
    ]
