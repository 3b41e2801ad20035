"""File locks: exclusion, waiting, and inheritance by child processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.backup.busy import hold_host
from swarm.deadline import Deadline
from swarm.errors import Refused
from swarm.locks import hold, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.backup.busy import Work
    from tests.conftest import Dirs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a lock file that does not exist yet."""
    return tmp_path / "lock"


@pytest.mark.parametrize(
    ("first", "second", "allowed"), [(False, False, False), (True, False, False), (True, True, True)]
)
def test_only_shared_locks_coexist(path: Path, first: bool, second: bool, allowed: bool) -> None:  # noqa: FBT001
    """An exclusive lock excludes every other, and a shared lock excludes exclusive ones, also within one process."""
    held = try_lock(path, shared=first)
    assert held
    with held:
        other = try_lock(path, shared=second)
        assert (other is not None) is allowed
        if other:
            other.release()


def test_a_released_lock_is_free(path: Path) -> None:
    """After the block, and after a release, which may be repeated, the lock can be taken again."""
    for _ in range(2):
        lock = try_lock(path)
        assert lock
        lock.release()
        lock.release()
    with hold(path) as held:
        assert not held.waited
        assert try_lock(path) is None
    free = try_lock(path)
    assert free
    free.release()


def test_the_lock_file_is_private(path: Path) -> None:
    """A new lock file is readable and writable by its owner only."""
    with hold(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_waiting_holder_says_so_and_gets_its_turn(path: Path) -> None:
    """`hold` waits inside `waiting()` until the other holder has released, and reports that it waited."""
    other = try_lock(path)
    assert other
    seen: list[str] = []

    @contextlib.contextmanager
    def waiting() -> Iterator[None]:
        seen.append("waiting")
        threading.Timer(0.2, other.release).start()
        yield
        seen.append("done")

    with hold(path, waiting=waiting, deadline=Deadline(60)) as lock:
        assert lock.waited
    assert seen == ["waiting", "done"]


def test_waiting_ends_at_the_deadline(path: Path) -> None:
    """A lock that is not released in time raises TimeoutError, which names the file."""
    with (
        hold(path),
        pytest.raises(TimeoutError, match=r"lock after 0\.1 s"),
        hold(path, deadline=Deadline(0.1)),
    ):
        pass


@pytest.mark.parametrize("inheritable", [True, False])
def test_a_child_keeps_an_inheritable_lock(path: Path, inheritable: bool) -> None:  # noqa: FBT001
    """A child process holds an inherited lock after its parent has released it, and ends it with its own end."""
    lock = try_lock(path, inheritable=inheritable)
    assert lock
    argv = [sys.executable, "-c", "import sys; print('ready', flush=True); sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        lock.release()
        again = try_lock(path)
        assert (again is None) is inheritable
        if again:
            again.release()
        child.stdin.close()
    free = try_lock(path)
    assert free
    free.release()


def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """A missing folder raises OSError and leaks no descriptor."""
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "missing" / "lock")
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize("work", ["backup", "restore", "drill"])
def test_whoever_waits_for_a_host_learns_what_holds_it(dirs: Dirs, work: Work) -> None:
    """The error names the restore, or whatever else holds the host's lock, and not what held it before."""
    with hold_host("zap", "verification"):
        pass
    with hold_host("zap", work), pytest.raises(Refused) as caught, hold_host("zap"):
        pass
    assert caught.value.message == f"a {work} of zap is running"
    assert (dirs.state / "backup/zap/lock").read_text(encoding="ascii") == work


@pytest.mark.parametrize("found", [b"", b"\x1b[31mred", b"restore" * 1_000_000])
def test_other_text_in_the_lock_of_a_host_is_not_shown(dirs: Dirs, found: bytes) -> None:
    """A lock that holds nothing, or anything that swarm has not written, is told of in general words."""
    with hold_host("zap"):
        (dirs.state / "backup/zap/lock").write_bytes(found)
        with pytest.raises(Refused) as caught, hold_host("zap"):
            pass
    assert caught.value.message == "a backup or a restore of zap is running"
