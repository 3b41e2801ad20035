"""Tell others how a backup went: commands of the user's own, a dead man's switch, and metrics for Prometheus."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Literal

from swarm.deadline import Deadline
from swarm.errors import CommandFailed, SwarmError
from swarm.files import write_atomically
from swarm.paths import expanded, mirrors_dir

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from swarm.backup.record import Record, Result
    from swarm.console import Talk
    from swarm.inventory import BackupSettings

__all__ = ["Monitor", "State", "metrics", "metrics_file", "ping", "write_metrics"]

State = Literal["start", "success", "warn", "fail"]

_BODY = 10_000  # bytes of the log's tail; healthchecks.io keeps up to 100 kB
_ANSWER = 10  # seconds; a dead monitoring service must not hold up a backup
# healthchecks.io knows no warning: the archive is there, so its timer must be reset. The log says what was odd.
_PATHS: dict[State, str] = {"start": "/start", "success": "", "warn": "", "fail": "/fail"}
_COMMAND = 3600  # seconds for one command of the user's
_GRACE = 10.0  # seconds for such a command to end by itself when it is told to
_POLL = 0.05
_PRINTED = 400  # bytes of a command's output that an error shows
_TAIL = 50  # lines of the log that a ping carries
_STATES: dict[Result, State] = {"success": "success", "warning": "warn", "failure": "fail"}


class Monitor:
    """Whom a host's settings name to be told of one backup, and the log of the run, whose tail a ping carries."""

    def __init__(self, host: str, settings: BackupSettings, talk: Talk) -> None:
        self._host, self._settings, self._talk = host, settings, talk
        self._log: list[str] = []
        self._variables = {"SWARM_HOST": host, "SWARM_MIRROR": str(mirrors_dir() / host)}

    def say(self, words: str) -> None:
        """Show a line, and add it to the log."""
        self._log.append(words)
        self._talk.say(words)

    def start(self) -> None:
        """Tell that the run begins, and run the commands of `before`. Raise CommandFailed if one fails."""
        self._ping("start")
        _commands(self._settings.before, "before", self._variables)

    def on_error(self, words: str) -> None:
        """Run the commands of `on_error`. One that fails changes nothing."""
        extra = {"SWARM_RESULT": "failure", "SWARM_ERROR": words}
        with suppress(SwarmError):
            _commands(self._settings.on_error, "on_error", {**self._variables, **extra})

    def after(self, result: Result) -> None:
        """Run the commands of `after`. Raise CommandFailed if one fails."""
        _commands(self._settings.after, "after", {**self._variables, "SWARM_RESULT": result})

    def end(self, result: Result, words: str, record: Record | None) -> None:
        """Write the metrics of the record, if one is given, and call the dead man's switch."""
        if record and (problem := write_metrics(self._settings.metrics, self._host, record)):
            self.say(problem)
        self._log.append(words)
        self._ping(_STATES[result])

    def _ping(self, state: State) -> None:
        if problem := ping(self._settings.ping, state, self._log[-_TAIL:]):
            self.say(problem)


def ping(url: str | None, state: State, log: Sequence[str]) -> str | None:
    """Call the dead man's switch with the log's tail. Return a sentence if it can't be reached, else None.

    The URL is a secret of sorts, so no message shows it.
    """
    if url is None:
        return None
    import requests

    target = url.replace("{state}", state) if "{state}" in url else _appended(url, _PATHS[state])
    body = "\n".join(log).encode("utf-8", "backslashreplace")[-_BODY:]
    try:
        # Only the status counts. The rest of the answer may be long, or never end.
        answer = requests.post(target, data=body, timeout=_ANSWER, allow_redirects=False, stream=True)
        answer.close()
    except (requests.RequestException, ValueError) as error:  # urllib3's own, for a host such as a..b
        return f"the ping for {state!r} was not delivered ({type(error).__name__})"
    if not answer.ok:
        return f"the ping for {state!r} was refused with status {answer.status_code}"
    if answer.status_code >= requests.codes.multiple_choices:  # 300 and above: another address, or none
        return (
            f"the ping for {state!r} was not delivered: the answer leads to another address, which is not followed "
            f"(status {answer.status_code}); write that address to backup.ping"
        )
    return None


def _appended(url: str, path: str) -> str:
    """Return the URL with `path` at the end of its path, which is before a query such as `?create=1`."""
    end = min((at for at in map(url.find, "?#") if at >= 0), default=len(url))
    return url[:end].rstrip("/") + path + url[end:]


def _commands(lines: Sequence[str], what: str, variables: Mapping[str, str]) -> None:
    """Run the user's commands one after another. Raise CommandFailed, naming the setting `what`, if one fails."""
    for number, line in enumerate(lines, 1):
        name = f"backup.{what}, command {number}"
        # Not pipes: a process that a command leaves in the background, such as a tunnel, would keep them open.
        with _memory() as output, _memory() as errors:
            try:
                code = _command(line, variables, output, errors)
            except subprocess.TimeoutExpired:
                raise CommandFailed(f"{name} timed out after {_COMMAND} s") from None
            if code:
                raise CommandFailed(
                    f"{name} failed with exit code {code}", _tail(errors) or _tail(output) or None
                )


def _command(line: str, variables: Mapping[str, str], output: IO[bytes], errors: IO[bytes]) -> int:
    """Run one command and return its exit code. At its time limit and at Ctrl-C, end all that it has started."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", line],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,  # so that it is a process group
    )
    try:
        return process.wait(_COMMAND)
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command's process group, by force if it does not end by itself."""
    deadline = Deadline(_GRACE)
    with suppress(ProcessLookupError, PermissionError):  # nothing is left, or nothing that this user may end
        try:
            os.killpg(process.pid, signal.SIGTERM)
            while deadline.pause(_POLL):
                process.poll()  # a shell that has ended belongs to the group until then
                os.killpg(process.pid, 0)
        finally:  # also at the next Ctrl-C
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _memory() -> IO[bytes]:
    """Return a file in memory, as the disk may be full."""
    return os.fdopen(os.memfd_create("output"), "w+b")


def _tail(file: IO[bytes]) -> str:
    """Return the end of what a command has printed."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _PRINTED))
    return file.read(_PRINTED).decode("utf-8", "replace").strip()


def metrics(host: str, record: Record) -> str:
    """Return the record in the text format of Prometheus."""
    values = {
        "last_run_timestamp_seconds": ("the end of the last run", record.ended),
        "last_success_timestamp_seconds": ("the end of the last run that succeeded", record.succeeded),
        "last_duration_seconds": ("how long the last run took", max(record.ended - record.started, 0.0)),
        "last_result": (
            "0: success, 1: warning, 2: failure",
            {"success": 0, "warning": 1}.get(record.result or "", 2),
        ),
        "archive_bytes": ("the size of the newest archive", record.stored),
        "verified_archives": (
            "how many verified archives there are",
            sum(1 for each in record.archives.values() if each.get("verified")),
        ),
        "last_drill_timestamp_seconds": ("the end of the last drill", record.drill.get("ended", 0)),
        "last_drill_ok": ("1 if the last drill succeeded", int(record.drill.get("result") == "success")),
    }
    lines = []
    for name, (text, value) in values.items():
        lines += [
            f"# HELP swarm_backup_{name} {text[0].upper()}{text[1:]}.",
            f"# TYPE swarm_backup_{name} gauge",
        ]
        lines.append(f'swarm_backup_{name}{{host="{host}"}} {value:.10g}')
    return "\n".join(lines) + "\n"


def metrics_file(directory: Path, host: str) -> Path:
    """Return the file with the metrics of a host."""
    return expanded(directory) / f"swarm_backup_{host}.prom"


def write_metrics(directory: Path | None, host: str, record: Record) -> str | None:
    """Write the metrics to `directory`, if there is one. Return a sentence if that fails, else None."""
    if directory is None:
        return None
    try:
        write_atomically(metrics_file(directory, host), metrics(host, record))
    except OSError as error:
        return f"the metrics can't be written to {directory}: {error.strerror}"
    return None
