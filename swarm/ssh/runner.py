"""Invoke's Runner on an OpenSSH session: what carries Guest.run()."""

from __future__ import annotations

import re
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

from invoke.runners import Runner

from swarm.errors import UsageError
from swarm.ssh.conversation import WAKE, Conversation
from swarm.ssh.session import Limits
from swarm.text import quote, visible

if TYPE_CHECKING:
    from typing import IO

    from swarm.ssh.link import Link

__all__ = ["OpenSSH"]

_KEPT = 4 << 20  # bytes of a command's output, all of which Invoke keeps, in a list and as text
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class OpenSSH(Runner):
    """Runs one command in a guest. Given the Guest; Fabric passes `inline_env` too, which is always on here."""

    def __init__(
        self,
        context: Any,  # noqa: ANN401 - Invoke's Context, which it types as Any in turn
        inline_env: bool | None = None,  # noqa: ARG002, FBT001 - Fabric's signature
    ) -> None:
        super().__init__(context)
        self._link: Link = context.link
        self._errors: SimpleQueue[bytes] = SimpleQueue()
        self._finished = threading.Event()
        self._failure: BaseException | None = None
        self._first = {"out": True, "err": True}  # no newline stands before the first line

    def start(self, command: str, shell: str, env: dict[str, str]) -> None:  # noqa: ARG002 - sh runs it
        """Send the command on its way. Invoke's own timer is not used: the limits do its work."""
        if self.using_pty:
            raise UsageError("a command in a guest has no terminal", "use ./inv ssh for interactive programs")
        limit, self.opts["timeout"] = self.opts["timeout"], None
        total = limit or Limits.total
        limits = Limits(total, total, _KEPT, _KEPT)
        self._conversation = Conversation(self._link, _exports(env) + command, limits, merged=False)

    def read_proc_stdout(self, num_bytes: int) -> bytes:  # noqa: ARG002 - whole lines are returned
        """Return more of the output. This thread moves everything: the script, both streams, and the limits."""
        try:
            while True:
                lines, errors = self._conversation.read()
                if not lines and not errors:
                    break
                if errors and (data := self._joined("err", errors)):
                    self._errors.put(data)
                if lines and (data := self._joined("out", lines)):  # nothing would mean that it is over
                    return data
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        self._end()
        return b""

    def read_proc_stderr(self, num_bytes: int) -> bytes:  # noqa: ARG002 - whole lines are returned
        """Return more of the error output; nothing once the command has ended."""
        return self._errors.get()

    def decode(self, data: bytes) -> str:
        """Return bytes as text. Lines are complete, so no character is cut in two."""
        return data.decode("utf-8", "replace")

    def write_our_output(self, stream: IO[str], string: str) -> None:
        """Show output of the guest: control characters are shown, not sent."""
        super().write_our_output(stream, visible(string, lines=True))

    def respond(self, buffer_: list[str]) -> None:
        """Answer prompts, if there are watchers; Invoke would join the whole output for each chunk."""
        if self.watchers:
            super().respond(buffer_)

    def wait(self) -> None:
        """Wait until the command has ended."""
        while not self._finished.wait(WAKE):
            pass

    @property
    def process_is_finished(self) -> bool:
        """Whether the command has ended."""
        return self._finished.is_set()

    def returncode(self) -> int | None:
        """Return the exit code. Raise what ended the conversation before its end."""
        if self._failure is not None:
            raise self._failure
        return self._conversation.code

    def get_pid(self) -> int:
        """Return the process ID of ssh."""
        return self._conversation.pid

    def kill(self) -> None:
        """End the conversation."""
        self._conversation.kill()

    def send_interrupt(self, interrupt: KeyboardInterrupt) -> NoReturn:
        """End the conversation on Ctrl-C and pass the interrupt on. A running step finishes on its own."""
        self._finished.set()
        self._end()
        raise interrupt

    def _write_proc_stdin(self, data: bytes) -> NoReturn:  # noqa: ARG002 - Invoke's signature
        raise UsageError(
            "a command in a guest reads no input",
            "copy a file there with put(), and let the command read that",
        )

    def close_proc_stdin(self) -> None:
        """Do nothing: the command's input is empty."""

    def stop(self) -> None:
        """Release everything."""
        super().stop()
        if conversation := getattr(self, "_conversation", None):
            conversation.kill()

    def _end(self) -> None:
        self._conversation.end()
        self._errors.put(b"")
        self._finished.set()

    def _joined(self, stream: str, lines: list[bytes]) -> bytes:
        text = b"\n".join(lines)
        text = text if self._first[stream] else b"\n" + text
        self._first[stream] = False
        return text


def _exports(env: dict[str, str]) -> str:
    """Return shell that sets environment variables. Raise UsageError for a name that is none."""
    for name in env:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not the name of an environment variable")
    return "".join(f"export {name}={quote(value)}\n" for name, value in env.items())
