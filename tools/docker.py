"""A Docker engine of its own for tests: a private dockerd in a folder, with images that need no download."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tools.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = ["Engine", "missing"]

_READY = 60.0  # seconds that a loaded machine may take
_STOP = 60.0
_CALL = 120.0
_NEEDED = ("dockerd", "docker", "docker-compose")
# The engine needs neither rules in the firewall nor routing: containers of one network reach each other on its bridge,
# and published ports are forwarded by a process. So it changes no setting of this computer.
_OPTIONS = (
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--bridge=none",
    "--storage-driver=vfs",
)


def missing() -> list[str]:
    """Return what this computer lacks for an engine of its own."""
    lacking = [] if os.geteuid() == 0 else ["root"]
    return lacking + [name for name in _NEEDED if not shutil.which(name)]


class Engine:
    """A dockerd whose images, containers and socket are in `folder`, and whose networks are in a namespace of its own.

    Docker picks address ranges for its networks. In this computer's own namespace they could hide real routes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._network = Namespace()
        self.host = f"unix://{folder}/sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead docker and docker-compose here, and past the user's own settings."""
        return {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.folder / "config")}

    @property
    def log(self) -> str:
        """The end of dockerd's log."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]

    def inside(self) -> AbstractContextManager[None]:
        """Let this thread, and what it starts, reach the published ports during the block."""
        return self._network.inside()

    def start(self) -> bool:
        """Start dockerd and wait until it answers. Return False if it ends or does not answer."""
        command = [
            "dockerd", f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid", f"--host={self.host}", *_OPTIONS,
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log, self.inside():
            # In a session of its own: Ctrl-C must reach the tests first, which then stop it.
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + _READY
        while time.monotonic() < end and self._process.poll() is None:
            if (self.folder / "sock").exists() and self.try_docker("version").returncode == 0:
                return True
            time.sleep(0.2)
        self.stop()
        return False

    def stop(self) -> None:
        """Remove the containers and networks, end dockerd, and unmount what it left. Its files stay in the folder."""
        if self._process and self._process.poll() is None:
            self._clear()
            self._process.terminate()
            try:
                self._process.wait(_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        for mount in reversed(_mounts(self.folder)):
            subprocess.run(["umount", "--lazy", mount], check=False)

    def docker(self, *words: str, stdin: bytes = b"") -> str:
        """Run docker and return what it prints. Raise AssertionError if it fails."""
        done = self.try_docker(*words, stdin=stdin)
        if done.returncode:
            raise AssertionError(f"docker {' '.join(words)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def try_docker(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run docker and return how it ended."""
        environment = os.environ | self.environment
        return subprocess.run(
            ["docker", *words], input=stdin, capture_output=True, env=environment, timeout=_CALL, check=False
        )

    def host_image(self, name: str, files: Mapping[str, str], changes: Sequence[str] = ()) -> None:
        """Import an image for containers that mount this computer's /usr: it has only links to it and `files`.

        `changes` are instructions of a Dockerfile.
        """
        words = [part for change in changes for part in ("--change", change)]
        self.docker("import", *words, "-", name, stdin=_archive(files))

    def _clear(self) -> None:
        if ids := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *ids)
        self.docker("network", "prune", "--force")  # else their bridges would stay on this computer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._network.close()


def _archive(files: Mapping[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():  # as on every supported system
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
                archive.addfile(link)
        parents = {str(parent) for name in files for parent in Path(name).parents} - {"."}
        for name in sorted({"tmp", "usr", *parents}):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(folder)
        for name, text in files.items():
            data = text.encode()
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(data), 0o755
            archive.addfile(file, io.BytesIO(data))
    return stream.getvalue()


def _mounts(folder: Path) -> list[str]:
    """Return the mount points below `folder`, in the order in which they were mounted."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [point for line in lines if (point := line.split()[4]).startswith(f"{folder}/")]
