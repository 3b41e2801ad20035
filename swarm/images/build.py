"""Builds a Secure-Boot bootable image from the packages of this machine's distribution.

Two halves: `build()` runs as the person and shows progress; it starts this module as a program, as root and in PID and mount
namespaces of its own, so that whatever ends it (also kill -9) ends all that it started and leaves nothing mounted. The
program writes one JSON object per line: {"phase": …}, {"line": …}, and at the end {"error": …, "hint": …} or {"done": true}.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import ImageError, SwarmError, Unfit
from swarm.images import disk, recipe, sources
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.console import Talk

__all__ = ["as_root", "build"]

# Seen on Debian 12: 1.3 GB of tree, packages and raw disk at once; twice that leaves room for larger kernels.
SPACE = 4 << 30
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "sfdisk": "fdisk",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mkfs.ext4": "e2fsprogs",
    "qemu-img": "qemu-utils",
}
_PREFIX = ".build-"


def as_root(argv: list[str]) -> list[str]:
    """Return `argv` so that it runs as root: as it is for root, else through sudo. Raise Unfit where there is no sudo."""
    if os.geteuid() == 0:
        return argv
    if not shutil.which("sudo"):
        raise Unfit(
            "building an image needs root, and there is no sudo here", "run this as root, or name a published image in the host file"
        )
    return ["sudo", *argv]


def build(what: recipe.Recipe, folder: Path, talk: Talk) -> Path:
    """Build the image `what` into `folder` and return its file.

    Raise Unfit if a program, root or space lacks, and ImageError if the build fails.
    """
    missing = sorted(
        {
            package
            for program, package in PROGRAMS.items()
            if not shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        }
    )
    if missing:
        raise Unfit(f"building an image needs programs of {', '.join(missing)}", f"apt-get install {' '.join(missing)}")
    if (free := shutil.disk_usage(folder).free) < SPACE:
        raise Unfit(
            f"building an image needs {SPACE >> 30} GiB of space, and {folder} has {free / (1 << 30):.1f} GiB",
            "make room, or move the cache with SWARM_CACHE",
        )
    target = folder / f".{what.file_name}.new"
    inner = [sys.executable, "-m", "swarm.images.build", str(target), f"{os.geteuid()}:{os.getegid()}"]
    argv = as_root(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", *inner])
    if argv[0] == "sudo" and subprocess.run(["sudo", "-v"], check=False).returncode:  # asks before the progress display begins
        raise Unfit("building an image needs root, and sudo refused", "run this as root, or name a published image in the host file")
    with talk.step(f"building image {what.name}") as meter:
        phase, failure, done = "", None, False
        # The program ends when its stdin does, that is when this process is gone.
        with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout  # noqa: S101 - asked for above
            for line in process.stdout:
                message = json.loads(line)
                phase = message.get("phase", phase)
                meter.note(f"{phase}: {message['line']}" if "line" in message else phase)
                failure = message if "error" in message else failure
                done = done or "done" in message
        if failure:
            raise ImageError(failure["error"], failure["hint"])
        if not done or not target.exists():
            raise ImageError(f"building {what.name} was broken off", "run the same command again")
    return target


class _Builder:
    """The half that runs as root."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def phase(self, text: str) -> None:
        _send(phase=text)

    def run(self, argv: list[str]) -> None:
        """Run a program, pass on its last line as it works, and raise ImageError with its last lines if it fails."""
        last: deque[str] = deque(maxlen=15)
        env = {
            **os.environ,
            "TMPDIR": str(self.work),
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env
        ) as process:
            assert process.stdout  # noqa: S101 - asked for above
            for line in process.stdout:
                if text := line.strip():
                    last.append(text)
                    _send(line=text[:120])
        if process.returncode:
            raise ImageError(
                f"{argv[0]} failed with status {process.returncode}; it said last:\n" + "\n".join(f"    {line}" for line in last),
                _hint(" ".join(last)),
            )

    def stage(self) -> Path:
        """The recipe's files as a tree that belongs to root, whoever the checkout belongs to."""
        stage = self.work / "stage"
        for path in recipe.files():
            copy = stage / path.relative_to(recipe.FILES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        return stage

    def bootstrap(self, what: recipe.Recipe) -> Path:
        """Install the packages into a folder and return it."""
        root = self.work / "root"
        apt = sources.of_this_machine(what.distribution, what.suite, self.work)
        argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={','.join(what.packages)}"]
        argv += [f"--aptopt={option}" for option in apt.build_options]
        argv += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "doc")]
        argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
        argv += [f'--setup-hook=cp -a {self.stage()}/. "$1"/', what.suite, str(root)]
        for name, text in (("machine.list", apt.lines), ("machine.sources", apt.stanzas)):
            if text:
                (self.work / name).write_text(text)
                argv.append(str(self.work / name))
        self.run(argv)
        self._finish(root, apt)
        return root

    def _finish(self, root: Path, apt: sources.Sources) -> None:
        for key in apt.keys:
            inside = root / key.relative_to("/")
            if not inside.exists():
                inside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(key, inside)
                inside.chmod(0o644)
        (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
        if apt.guest_options:
            (root / "etc/apt/apt.conf.d/90machine").write_text("".join(f"{option};\n" for option in apt.guest_options))
        # Every guest makes its own: host keys (by cloud-init) and machine id (empty: made at boot, without systemd's first-boot presets).
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        (root / "etc/machine-id").write_text("")


def _hint(said: str) -> str:
    for words, hint in (
        ("No space left", "make room, or move the cache with SWARM_CACHE"),
        ("Temporary failure resolving", "this machine cannot reach its package mirror: look at its network and DNS"),
        ("Could not connect", "this machine cannot reach its package mirror: look at its network"),
        ("Unable to locate package", "the machine's apt sources lack this package: look at /etc/apt/sources.list.d"),
        ("NO_PUBKEY", "the machine's apt sources are signed by a key that it does not have"),
    ):
        if words in said:
            return hint
    return "run the same command again; if it fails again, the lines above tell where"


def _send(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """A locked folder that is removed at the end; those of builders that died are removed at the start."""
    for old in folder.glob(f"{_PREFIX}*"):
        with (old / "lock").open("a") if (old / "lock").exists() else tempfile.TemporaryFile("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(old, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    work.chmod(0o755)  # apt fetches as the user _apt
    with (work / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _die_with_parent() -> None:
    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(argv: list[str]) -> int:
    """Build as root: `target` and the owner's `uid:gid` are the two arguments."""
    target, owner = Path(argv[0]), [int(number) for number in argv[1].split(":")]
    _die_with_parent()
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)  # of the new PID namespace
    what = recipe.this_machine()
    try:
        with _workspace(target.parent) as work:
            builder = _Builder(work)
            builder.phase("packages")
            root = builder.bootstrap(what)
            builder.phase("disk")
            result = work / "disk.qcow2"
            disk.assemble(root, what, work, result, builder.run)
            os.chown(result, *owner)
            result.chmod(0o644)
            result.replace(target)
    except SwarmError as error:
        _send(error=error.message, hint=error.hint)
        return 1
    except OSError as error:
        _send(error=f"building {what.name} failed: {error}", hint=_hint(str(error)))
        return 1
    _send(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
