"""Single files to and from a guest: checked by size or checksum, and replaced completely or not at all."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import selectors
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from swarm.deadline import Deadline
from swarm.errors import CommandFailed
from swarm.ssh.reasons import Ending, without_warnings
from swarm.ssh.session import Limits, surroundings
from swarm.text import amount, clipped, quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.ssh.link import Link

__all__ = ["FILE_LIMITS", "download", "upload"]

_CHUNK = 1 << 18  # bytes
# For one file. None of its bytes are kept as output, so the limits in bytes do not count.
FILE_LIMITS = Limits(total=3600.0)
_SIGNS = 4  # signs of progress that an upload can send in `silence` seconds
_MESSAGES = 1 << 14  # bytes of error output that are kept
_SSH_FAILED = 255  # ssh's exit code for its own failures
_SIZE = re.compile(rb"\d{1,18} [0-7]{3,4}")  # a file's size in bytes, and its mode

_UPLOAD = """set -eu
umask 077
target=@TARGET@
if [ -d "$target" ]; then target=$target/@NAME@; fi
new=$(mktemp "$(dirname -- "$target")/.swarm-XXXXXX")
# ssh reads megabytes ahead, so only this side knows what has arrived and, by the offset of 4, what is checked.
exec 4<"$new"
watch() {
  seen=
  while sleep @PAUSE@ 4<&- </dev/null >/dev/null 2>&1; do
    now=$(stat -c %s -- "$new"; cat "/proc/$$/fdinfo/4")
    [ "$now" = "$seen" ] || echo
    seen=$now
  done
}
watch 2>/dev/null &
trap 'rm -f -- "$new"; kill "$!" 2>/dev/null || :' EXIT
cat >"$new"
sum=$(sha256sum <&4)
[ "${sum%% *}" = @SUM@ ] || { echo 'the copy is incomplete' >&2; exit 1; }
chmod @MODE@ "$new"
mv -fT -- "$new" "$target"
"""
_DOWNLOAD = """set -eu
exec <@SOURCE@
printf '\\n%s\\n' @MARK@
stat -L -c '%s %a' /dev/stdin
cat
printf '\\n%s\\n' @MARK@
"""


def upload(
    link: Link, local: Path, remote: str, *, preserve_mode: bool = True, limits: Limits = FILE_LIMITS
) -> None:
    """Copy the file `local` to the path `remote` in the guest. Raise OSError, CommandFailed or Unreachable.

    It may take `limits.total` seconds, and `limits.silence` seconds in which no byte arrives in the guest.
    """
    with local.open("rb") as source:
        total = hashlib.file_digest(source, "sha256").hexdigest()
        mode = f"{stat.S_IMODE(os.fstat(source.fileno()).st_mode):o}" if preserve_mode else "644"
        source.seek(0)
        values = {"TARGET": quote(remote), "NAME": quote(local.name), "SUM": total, "MODE": mode}
        script = _filled(_UPLOAD, {**values, "PAUSE": f"{limits.silence / _SIGNS:g}"})
        _transfer(link, script, source, lambda _: None, _Work(f"copying {local} to {remote}", limits))


def download(
    link: Link, remote: str, local: Path, *, preserve_mode: bool = True, limits: Limits = FILE_LIMITS
) -> None:
    """Copy the file `remote` of the guest to the path `local`. Raise OSError, CommandFailed or Unreachable.

    It may take `limits.total` seconds, and `limits.silence` seconds without a byte.
    """
    local = local / Path(remote).name if local.is_dir() else local
    descriptor, name = tempfile.mkstemp(prefix=f".{local.name}.", dir=local.parent)
    scratch = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target:
            mark = secrets.token_hex(12)
            received = _Received(target, f"{link.alias}: {remote}", mark)
            script = _filled(_DOWNLOAD, {"SOURCE": quote(remote), "MARK": mark})
            _transfer(link, script, subprocess.DEVNULL, received.take, _Work(f"copying {remote}", limits))
            mode = received.check()
            os.fchmod(target.fileno(), mode if preserve_mode else 0o644)
        scratch.replace(local)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


class _Work:
    """What a transfer does, in words, and how long it may take."""

    def __init__(self, what: str, limits: Limits) -> None:
        self.what, self._silence, self._deadline = what, limits.silence, Deadline(limits.total)

    @property
    def patience(self) -> float:
        """Seconds to wait for the next byte, zero if the time is up."""
        return min(self._silence, self._deadline.remaining)

    @property
    def late(self) -> str:
        """Which of the two limits was exceeded."""
        if self._deadline.expired:
            return f"{self.what} timed out after {self._deadline.limit:.0f} s"
        return f"{self.what} made no progress for {self._silence:.0f} s"


class _Received:
    """What arrives of a download: the mark, a line with size and mode, exactly that many bytes, and the mark again.

    What comes before and after is what a login prints.
    """

    def __init__(self, target: IO[bytes], what: str, mark: str) -> None:
        self._target, self._what, self._mark = target, what, f"\n{mark}\n".encode()
        self._head, self._left, self._mode, self._after, self._rest = b"", -1, 0, b"", 0

    def take(self, data: bytes) -> None:
        """Take the next bytes. Raise CommandFailed for what does not fit the first line, or the free space."""
        if self._left < 0:
            self._head += data
            line, newline, data = self._head.partition(self._mark)[2].partition(b"\n")
            if not newline and len(self._head) < _MESSAGES:
                return
            size, _, mode = line.partition(b" ")
            if not (newline and _SIZE.fullmatch(line)):
                raise CommandFailed(f"{self._what}: received a malformed answer from the guest")
            self._left, self._mode = int(size), int(mode, 8) & 0o777
            self._check_space()
        self._target.write(data[: self._left])
        after = data[self._left :]
        self._left = max(0, self._left - len(data))
        mark = after[: len(self._mark) - len(self._after)]
        self._after += mark
        self._rest += len(after) - len(mark)
        if not self._mark.startswith(self._after):
            raise CommandFailed(f"{self._what}: the file grew while it was copied", "copy it again")
        if self._rest > _MESSAGES:
            raise CommandFailed(f"{self._what}: the guest sent more than the file")

    def _check_space(self) -> None:
        """Raise CommandFailed if the file system of the copy has less free space than the guest has announced."""
        disk = os.fstatvfs(self._target.fileno())
        free = disk.f_bavail * disk.f_frsize
        if self._left > free:
            raise CommandFailed(
                f"{self._what}: the guest announced {amount(self._left)}, and only {amount(free)} are free here",
                "free space, or choose a directory on a larger disk",
            )

    def check(self) -> int:
        """Return the file's mode. Raise CommandFailed if bytes are missing."""
        if self._left or self._after != self._mark:
            raise CommandFailed(f"{self._what}: the copy is incomplete", "copy it again")
        self._target.flush()
        os.fsync(self._target.fileno())
        return self._mode


def _filled(script: str, values: dict[str, str]) -> str:
    """Return the script with each @NAME@ replaced, in one pass: a value may look like another value's name."""
    return re.sub("@([A-Z]+)@", lambda found: values[found[1]], script)


def _transfer(
    link: Link, script: str, source: IO[bytes] | int, take: Callable[[bytes], None], work: _Work
) -> None:
    """Run `script` in the guest with `source` as its input, and give its output to `take`."""
    shell = (
        f"if [ -O /proc/1 ]; then exec sh -c {quote(script)}; else exec sudo -n -- sh -c {quote(script)}; fi"
    )
    # The login shell may be any, so it sees no character that the shells treat differently.
    coded = base64.b64encode((shell if link.root else script).encode("utf-8", "surrogateescape")).decode()
    through = f"exec sh -c 'eval \"$(echo {coded} | base64 -d)\"'"
    command = [*link.command(), "--", link.alias, through]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=source, stdout=pipe, stderr=pipe, bufsize=0, env=surroundings()
    ) as process:
        try:
            messages, limit = _pump(process, take, work)
        finally:
            process.kill()
    code = process.returncode
    if limit:
        link.close()  # the guest may still be sending
    if limit or code == _SSH_FAILED or code < 0:
        raise link.explain(Ending(code, messages, started=False, limit=limit))
    if code:
        reason = (without_warnings(messages).strip().splitlines() or ["no reason given"])[-1]
        raise CommandFailed(f"{link.alias}: {work.what} failed: {clipped(reason)}")


def _pump(process: subprocess.Popen[bytes], take: Callable[[bytes], None], work: _Work) -> tuple[str, str]:
    """Move the output of `process` until it ends. Return the end of its error output, and the limit it exceeded."""
    messages, limit = b"", ""
    assert process.stdout is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            patience = work.patience
            ready = selector.select(patience) if patience else []
            if not ready:
                limit = work.late
                process.kill()
                break
            for key, _ in ready:
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    take(data)
                else:
                    messages = (messages + data)[-_MESSAGES:]
    process.wait()
    return messages.decode("utf-8", "replace"), limit
