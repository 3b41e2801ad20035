"""The half of an image's build that runs as root: `python -m swarm.images.builder TARGET UID:GID`.

It writes one JSON object per line to stdout: {"phase": …}, {"line": …} (the running program's last output),
and at the end {"error": …, "hint": …} or {"done": true}. It stops when its stdin ends.

The work is done by a second process in PID and mount namespaces of its own: whatever ends that one, kill -9
too, ends all that it has started, and nothing stays mounted.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import ImageError, SwarmError
from swarm.images import disk, recipe, sources
from swarm.locks import hold, try_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Builder", "inside", "main", "workspace"]

_PREFIX = ".build-"
_IMAGE = "image.qcow2"
_LINES = 12  # of a failing program's last words
_WIDTH = 100  # of a line that is shown while a program runs
_STALE = 3600  # seconds after which a finished file counts as abandoned

_HINTS = {
    "No space left": "make room, or move the cache with SWARM_CACHE",
    "Temporary failure resolving": "this machine cannot reach its package mirror: look at its network and DNS",
    "Could not connect": "this machine cannot reach its package mirror: look at its network",
    "Could not resolve": "this machine cannot reach its package mirror: look at its network and DNS",
    "Unable to locate package": "this machine's apt sources do not have the package: check /etc/apt/sources.list.d",
    "NO_PUBKEY": "this machine's apt sources are signed by a key that it does not have",
    "Hash Sum mismatch": "the package mirror is being updated, or a proxy changes its files: try again in some minutes",
}


class Builder:
    """Builds in `work`, a folder that is removed afterwards."""

    def __init__(self, work: Path) -> None:
        self.work = work

    def run(self, argv: list[str]) -> None:
        """Run a program, passing on what it says line by line. Raise ImageError with its last lines if it fails."""
        last: deque[str] = deque(maxlen=_LINES)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        env = {
            **os.environ,
            "TMPDIR": str(self.work),
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "PATH": path,
        }
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=env,
        ) as process:
            for line in process.stdout or ():
                if text := line.strip():
                    last.append(text)
                    _send(line=text[:_WIDTH])
        if process.returncode:
            said = "".join(f"\n    {line}" for line in last)
            raise ImageError(
                f"{argv[0]} failed with exit code {process.returncode}; its last output:{said}", _remedy(said)
            )

    def build(self, what: recipe.Recipe) -> None:
        """Make the qcow2 file in `work`."""
        _send(phase="packages")
        root = self.work / "root"
        apt = sources.of_this_machine(what.distribution, what.suite, self.work)
        self.run(self.bootstrap(what, apt, root))
        _send(phase="settings")
        self.settle(root, apt)
        _send(phase="disk")
        disk.assemble(root, what, self.work, self.work / _IMAGE, self.run)

    def bootstrap(self, what: recipe.Recipe, apt: sources.Sources, root: Path) -> list[str]:
        """Return the command that installs the packages into the folder `root`."""
        argv = [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
            f"--include={','.join(what.packages)}",
        ]
        if apt.build_options:  # in a file, since a proxy's address may hold a password
            options = self.work / "apt.conf"
            options.touch(0o600)
            options.write_text("".join(f"{option};\n" for option in apt.build_options))
            argv.append(f"--aptopt={options}")
        # Only while the image is built; the guest's later packages come whole. Firmware drives hardware that
        # a VM does not have.
        argv += [
            f"--dpkgopt=path-exclude={path}/*"
            for path in ("/usr/share/man", "/usr/share/locale", "/usr/share/doc")
        ]
        argv += [f"--dpkgopt=path-exclude={path}/*" for path in ("/lib/firmware", "/usr/lib/firmware")]
        argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
        argv += [f'--setup-hook=cp -a {shlex.quote(str(self.stage()))}/. "$1"/']
        # Updates of shim and GRUB shall also reach EFI/BOOT, from where the image boots.
        preseed = shlex.quote("grub-efi-amd64 grub2/force_efi_extra_removable boolean true")
        argv += [
            f'--essential-hook=echo {preseed} | chroot "$1" debconf-set-selections',
            what.suite,
            str(root),
        ]
        for name, text in (("machine.list", apt.lines), ("machine.sources", apt.stanzas)):
            if text:
                (self.work / name).write_text(text)
                argv.append(str(self.work / name))
        return argv

    def stage(self) -> Path:
        """Return a tree of the recipe's files that belongs to root, whatever the checkout's owner."""
        stage = self.work / "stage"
        for inside, path in recipe.files().items():
            copy = stage / inside
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
        return stage

    def settle(self, root: Path, apt: sources.Sources) -> None:
        """Clean up leftovers from package installation and mmdebstrap."""
        for key in apt.keys:
            inside = root / key.relative_to("/")
            if not inside.exists():
                inside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(key, inside)
                inside.chmod(0o644)
        for options in ("etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap"):
            (root / options).unlink(missing_ok=True)
        if apt.guest_options:
            (root / "etc/apt/apt.conf.d/90machine").write_text(
                "".join(f"{option};\n" for option in apt.guest_options)
            )
        # Every guest makes its own host keys (cloud-init does it) and machine id; an empty file, unlike none,
        # spares it systemd's presets at the first boot. mmdebstrap has copied this machine's name.
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        (root / "etc/machine-id").write_text("")
        (root / "etc/hostname").write_text("localhost\n")
        for log in (log for log in (root / "var/log").rglob("*") if log.is_file()):
            log.unlink()
        self.run(["chroot", str(root), "passwd", "--quiet", "--lock", "root"])
        self.run(["chroot", str(root), "systemctl", "--quiet", "disable", *recipe.UNUSED_UNITS])


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Make a folder inside `folder` that is removed at the end, and remove those of builders that died.

    A builder that lives holds the lock of its workspace.
    """
    for old in folder.glob(f"{_PREFIX}*"):
        if lock := try_lock(old / "lock"):
            with lock:
                shutil.rmtree(old)
    for old in folder.glob(".built-*.new"):
        if time.time() - old.stat().st_mtime > _STALE:
            old.unlink()
    work = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    with hold(work / "lock"):
        work.chmod(0o755)  # apt fetches as the user _apt
        try:
            yield work
        finally:
            shutil.rmtree(work)


def main(argv: list[str]) -> int:
    """Build the image of this machine's recipe as the file argv[0], which will belong to argv[1], a `uid:gid`.

    This process keeps outside of the namespaces, so that it can remove the workspace when nothing is mounted
    there any more.
    """
    os.umask(0o022)  # sudo keeps a stricter one, and folders of the image are made with it
    target, (uid, gid) = Path(argv[0]), (int(number) for number in argv[1].split(":"))
    try:
        with workspace(target.parent) as work:
            if not _build_inside(work):
                return 1
            image = work / _IMAGE
            os.chown(image, uid, gid)
            image.chmod(0o644)
            image.replace(target)
    except OSError as error:
        _send(**_explain(error))
        return 1
    _send(done=True)
    return 0


def _build_inside(work: Path) -> bool:
    """Build in namespaces of their own and return whether it worked. Stop when stdin ends, or at Ctrl-C."""
    inside = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        sys.executable,
        "-B",
        "-m",
        __spec__.name,
    ]
    # In a session of its own: Ctrl-C shall reach this process only.
    process = subprocess.Popen([*inside, str(work)], stdin=subprocess.PIPE, start_new_session=True)

    def stop(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        process.kill()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    threading.Thread(target=_at_end_of_input, args=(process.kill,), daemon=True).start()
    return process.wait() == 0


def inside(work: Path) -> int:
    """Build in `work`; in the new namespaces this is the first process, with which the kernel ends all others."""
    threading.Thread(target=_at_end_of_input, args=(lambda: os._exit(1),), daemon=True).start()
    # Of the new PID namespace; where it may not be mounted, the programs make do with the old one.
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=False, capture_output=True)
    try:
        Builder(work).build(recipe.this_machine())
    except (SwarmError, OSError) as error:
        _send(**_explain(error))
        return 1
    return 0


def _at_end_of_input(act: Callable[[], object]) -> None:
    """Wait until stdin ends because the parent has ended or gives up, then act."""
    while os.read(0, 1):
        pass
    act()


def _explain(error: SwarmError | OSError) -> dict[str, str | None]:
    if isinstance(error, SwarmError):
        return {"error": error.message, "hint": error.hint}
    return {"error": f"the image cannot be built: {error}", "hint": _remedy(str(error))}


def _remedy(said: str) -> str:
    return next(
        (hint for words, hint in _HINTS.items() if words in said),
        "the lines above tell where; often a second try helps",
    )


def _send(**report: object) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    *outside, last = sys.argv[1:]  # one argument only, the workspace, means inside of the namespaces
    sys.exit(main([*outside, last]) if outside else inside(Path(last)))
