"""Fixtures for every test. No test may touch the folders of the person who runs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ROOT = Path(__file__).parent.parent
SHARING = ("vm", "nspawn", "docker", "litellm")  # folders whose tests share what is expensive to start
TO_END = 120  # seconds; a VM, machines and a LiteLLM take up to 60 to stop
GUEST = ROOT / "tests" / "guest"  # what `inv verify` runs: these tests are for the person's own hosts


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let SIGTERM end a run as Ctrl-C does, so that the fixtures stop what they have started.

    Enable Ctrl-C, also for the programs that the tests start, when the run is a script's background job.
    """
    one_of_several = hasattr(session.config, "workerinput")  # started by xdist, and gets both signals

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if one_of_several:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop if one_of_several else signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes of a run side by side end in good order: xdist kills them after 10 s otherwise."""
    if config.getoption("numprocesses", None):
        from xdist.workermanage import NodeManager  # type: ignore[import-untyped, unused-ignore]

        NodeManager.EXIT_TIMEOUT = TO_END
        config.pluginmanager.register(PassOn())


class PassOn:
    """Passes Ctrl-C and SIGTERM on to the processes of a run side by side, so that their fixtures stop everything."""

    def pytest_keyboard_interrupt(self) -> None:
        """Send SIGTERM to each of them. One that a terminal's Ctrl-C has reached already ignores it."""
        for path in Path("/proc/self/task").glob("*/children"):
            for pid in path.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:  # noqa: ANN401 - xdist's own type
    """Keep in one process what shares a VM, machines, an engine or a proxy, and otherwise the tests of one file."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped, unused-ignore]

    class ByFolder(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            path = Path(nodeid.partition("::")[0])
            return path.parts[1] if path.parts[1] in SHARING else str(path)

    return ByFolder(config, log)


# A busy machine is no defect: no test is about how long an example takes.
settings.register_profile("swarm", deadline=None)
settings.load_profile("swarm")


@dataclass(frozen=True)
class Dirs:
    """The folders in which swarm keeps its files."""

    hosts: Path
    state: Path
    cache: Path
    mirrors: Path
    backups: Path

    @classmethod
    def make(cls, base: Path, patch: pytest.MonkeyPatch) -> Dirs:
        """Create empty folders below `base`, and let swarm use them."""
        names = ("hosts", "state", "cache", "mirrors", "backups")
        dirs = cls(*(base / name for name in names))
        for name, path in (
            ("SWARM_HOSTS", dirs.hosts),
            ("SWARM_STATE", dirs.state),
            ("SWARM_CACHE", dirs.cache),
            ("SWARM_MIRRORS", dirs.mirrors),
            ("SWARM_BACKUPS", dirs.backups),
        ):
            path.mkdir(parents=True)
            patch.setenv(name, str(path))
        patch.setenv("SWARM_INSTANCES", str(base / "instances" / "openclaw-instances.json"))
        return dirs


@pytest.fixture(scope="session", autouse=True)
def base(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Give a folder with a short name for the whole run, and keep every test out of the person's own folders.

    The name is short because a Unix socket's name has at most 107 bytes and pytest's own folders have long names. The
    folder is open to other users because QEMU may run as one.
    """
    path = Path(tempfile.mkdtemp(prefix="swarm-"))
    path.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        if not all(item.path.is_relative_to(GUEST) for item in request.session.items):
            Dirs.make(path / "all", patch)
        yield path
    shutil.rmtree(path)


@pytest.fixture
def dirs(base: Path, monkeypatch: pytest.MonkeyPatch) -> Dirs:
    """Give one test its own empty folders for hosts, state and cache."""
    number = sum(1 for _ in base.iterdir())
    return Dirs.make(base / str(number), monkeypatch)


@pytest.fixture(scope="session")
def small_project() -> Callable[[Path, str], list[str]]:
    """Give a function that makes a project of swarm's command line and a tasks.py, and returns its command."""

    def make(folder: Path, tasks: str) -> list[str]:
        shutil.copytree(ROOT / "swarm", folder / "swarm", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "completion", folder / "completion")
        shutil.copy2(ROOT / "pyproject.toml", folder)
        (folder / "tasks.py").write_text(tasks, encoding="utf-8")
        return [sys.executable, "-P", str(folder / "swarm" / "__main__.py")]

    return make
