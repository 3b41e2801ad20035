"""Run virtiofsd so that a guest's owners in swarm's own shares are nobody on this machine. Standard library only.

virtiofsd runs as root and gives each file the owner that the guest asks for. In a folder that a user of this machine
enters, the guest's root could so leave a program that runs as root for whoever starts it. `cover` therefore puts this
file's program in virtiofsd's place, in the embedded hypervisor's mount namespace only. For a share of swarm's own, it
starts the real virtiofsd in a user namespace: the guest's first user is the user of swarm, and every other owner is
an ID that no account of this machine has. Device files can't be made there at all.

A folder that the host file names by an absolute path has owners already, and keeps them.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FIRST_USER", "NOBODYS", "cover", "mapping", "outside"]

FIRST_USER = 1000  # the guest's ID of its first user, and of that user's group
# The beginning of the IDs that systemd's list of uses (systemd.io/UIDS-GIDS) calls unused, 0x70000000.
NOBODYS = 1879048192
_IDS = 65536  # owners that a guest can give: the 16 bits of traditional Unix

_PROGRAMS = Path("/usr/share/qemu/vhost-user")  # where QEMU's packages describe them, as JSON
_PLACE = Path("/run/libvirt/swarm-shares")  # in the embedded hypervisor, which has a /run/libvirt of its own
_SHARE = _PLACE / "share"  # where virtiofsd finds its share: it cannot enter the folders above it as nobody

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # linux/mount.h


def outside(inside: int, user: int) -> int:
    """Return the ID on this machine for an owner's ID in the guest. `user` is the ID of swarm's user."""
    return user if inside == FIRST_USER and user else NOBODYS + inside


def mapping(user: int) -> str:
    """Return the lines of /proc/PID/uid_map or gid_map: the ID inside, the ID outside, and how many follow.

    For root there is no exception: the guest's first user must not become root here.
    """
    if not user:
        return f"0 {NOBODYS} {_IDS}\n"
    after = FIRST_USER + 1
    return f"0 {NOBODYS} {FIRST_USER}\n{FIRST_USER} {user} 1\n{after} {NOBODYS + after} {_IDS - after}\n"


def cover(state: Path, uid: int, gid: int) -> None:
    """Put this file's program in the place of each virtiofsd of this mount namespace.

    `state` is the directory of the embedded hypervisor, whose neighbour `shares` has the shares. `uid` and `gid` are
    swarm's user's. Where this machine lets no such namespace be made, nothing is done: a container that has no other
    IDs than its own is such a place, and there its IDs are nobody's outside of it.
    """
    if not _possible():
        return
    _PLACE.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(_PLACE))
    _SHARE.mkdir()
    for number, program in enumerate(sorted(_virtiofsds())):
        real, ours = _PLACE / f"real{number}", _PLACE / f"mapped{number}"
        words = [
            sys.executable,
            "-I",
            "-B",
            str(Path(__file__).resolve()),
            str(real),
            str(state.parent / "shares"),
        ]
        ours.write_text(
            f'#!/bin/sh\nexec {shlex.join([*words, str(uid), str(gid)])} "$@"\n', encoding="utf-8"
        )
        ours.chmod(0o755)
        real.touch()
        _run("mount", "--bind", str(program), str(real))
        _run("mount", "--bind", str(ours), str(program))


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def _possible() -> bool:
    """Whether user namespaces are allowed, and this machine has the IDs."""
    try:
        allowed = int(Path("/proc/sys/user/max_user_namespaces").read_text(encoding="ascii"))
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return False
    last = NOBODYS + _IDS - 1
    ranges = [(int(first), int(count)) for first, _, count in (line.split() for line in lines)]
    return allowed > 0 and any(first <= NOBODYS and last < first + count for first, count in ranges)


def _virtiofsds() -> Iterator[Path]:
    """Yield each virtiofsd that libvirt may start. End the program if a description is damaged: it may hide one."""
    for description in _PROGRAMS.glob("*.json"):
        text = description.read_text(encoding="utf-8")
        try:
            found = json.loads(text) if text else {"type": "none"}
            program = Path(found["binary"]) if found["type"] == "fs" else None
        except (ValueError, TypeError, LookupError, RecursionError):
            sys.exit(
                f"{description} is no description of a program; reinstall its package, or remove the file"
            )
        if program and program.is_file():
            yield program


def _source(arguments: list[str]) -> Path | None:
    """Return the folder that virtiofsd is to serve, which is part of `-o`, or the value of `--shared-dir`."""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--shared-dir":
            return Path(value or following)
        for option in following.split(",") if word == "-o" else ():
            if option.startswith("source="):
                return Path(option.removeprefix("source="))
    return None


def _adopt(share: Path, note: Path, uid: int, gid: int) -> None:
    """Give what is in a share the owners that it now needs, and take away the right to run as them. This is done once.

    `note` says that it was done; no guest can write where it is. If root made the folder anew, it is root's again.
    """
    if note.exists() and (uid or share.stat().st_uid >= NOBODYS):
        return
    for _, folders, files, folder in os.fwalk(share):
        for name in [".", *folders, *files]:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if max(found.st_uid, found.st_gid) < _IDS:
                owner = uid if found.st_uid == uid != 0 else outside(found.st_uid or FIRST_USER, uid)
                group = gid if found.st_gid == gid != 0 else outside(found.st_gid or FIRST_USER, gid)
                os.chown(name, owner, group, dir_fd=folder, follow_symlinks=False)  # clears set-user-ID
    note.touch()


def _enter(share: Path, uid: int, gid: int) -> None:
    """Move this process into namespaces in which `share` is at _SHARE, and its root is nobody outside."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    call("unshare", _CLONE_NEWNS)
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    call("mount", os.fsencode(share), os.fsencode(_SHARE), None, _MS_BIND, None)
    # Only a process outside may write the mapping, and only when the namespace is there.
    me, (made, make), (mapped, write) = os.getpid(), os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(make)
            os.read(made, 1)  # until the other end is closed
            for name, user in (("uid_map", uid), ("gid_map", gid)):
                Path(f"/proc/{me}/{name}").write_text(mapping(user), encoding="ascii")
            os.write(write, b"1")
        finally:
            os._exit(0)
    os.close(write)
    call("unshare", _CLONE_NEWUSER)
    os.close(make)
    if os.read(mapped, 1) != b"1":
        raise OSError(0, "the owners of the shared folder could not be mapped")
    os.waitpid(child, 0)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def main() -> None:
    """Become virtiofsd. The words are: the real program, the folder of shares, the user, the group, its own words."""
    real, shares, uid, gid, *arguments = sys.argv[1:]
    given, place = _source(arguments), Path(shares).resolve()
    share = given.resolve() if given else place
    if place in share.parents and share.is_dir():
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (most, most)
        )  # it holds open each file that the guest knows
        name = quote(str(share.relative_to(place)), safe="")
        _adopt(share, Path(place, f".{name}.mapped"), int(uid), int(gid))
        _enter(share, int(uid), int(gid))
        arguments = [word.replace(str(given), str(_SHARE)) for word in arguments]
    os.execv(real, ["virtiofsd", *arguments])  # noqa: S606 - without a shell on purpose: no argument is interpreted


if __name__ == "__main__":
    main()
