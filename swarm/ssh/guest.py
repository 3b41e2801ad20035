"""Guest: a fabric.Connection that is carried by OpenSSH, with the pinned host key and one kept connection."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import fabric

from swarm.errors import CommandFailed, UsageError
from swarm.ssh.copy import FILE_LIMITS, download, upload
from swarm.ssh.link import Link
from swarm.ssh.runner import OpenSSH
from swarm.text import clipped, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from invoke.runners import Result

    from swarm.ssh.conversation import Running
    from swarm.ssh.session import Limits

__all__ = ["Guest"]

_TAIL = 5  # lines of a failed command's output that its error shows


class Guest(fabric.Connection):  # type: ignore[misc]  # Fabric ships no types
    """A host as `ssh -F CONFIG ALIAS` reaches it. With `root`, commands run as root, by sudo if necessary.

    run() returns Invoke's Result, or its Promise with asynchronous=True, as with every fabric.Connection.
    Commands have no input and no terminal. Each ends after `timeout` seconds (900 by default), and raises
    Unreachable if the connection fails. A command may be silent all that time, so pass a short `timeout` where a
    hung one should not hold you up. It must start within 60 s, and may send 4 MiB. put() and get() end after an
    hour, or 120 s without progress; their `limits` change that. A dead network ends everything after 15 s.

    `hide` is the default for run(), `booting` is passed to Link.
    """

    def __init__(
        self,
        config: Path,
        alias: str,
        *,
        root: bool = True,
        booting: bool = False,
        hide: bool = True,
        link: Link | None = None,
    ) -> None:
        run = {"in_stream": False, "hide": hide, "replace_env": True}
        settings = fabric.Config(lazy=True, overrides={"runners": {"remote": OpenSSH}, "run": run})
        super().__init__(alias, user="root", port=22, config=settings, connect_kwargs={})
        # Fabric passes the attributes of a Connection on to its configuration, but for those that are set
        # like this.
        object.__setattr__(self, "link", link or Link(config, alias, root=root, booting=booting))

    link: Link

    @property
    def alias(self) -> str:
        """The host's name in its SSH configuration."""
        return self.link.alias

    @property
    def control_path(self) -> Path:
        """The socket of the kept connection."""
        return self.link.control_path

    @property
    def is_connected(self) -> bool:
        """Whether a connection is kept."""
        return self.link.is_connected

    def connect(self) -> None:
        """Start to connect, and return at once."""
        self.link.connect()

    @contextlib.contextmanager
    def connecting(self) -> Iterator[None]:
        """Connect while the block runs. If the block raises, the connection is given up."""
        with self.link.connecting():
            yield

    def give_up(self) -> None:
        """End a connection that was started and not used. A kept one stays."""
        self.link.give_up()

    def open(self) -> None:
        """Start to connect, as Fabric does before each command; the command says if that fails."""
        self.link.connect()

    def close(self) -> None:
        """End the kept connection, if there is one."""
        self.link.close()

    def __exit__(self, *_: object) -> None:
        self.give_up()

    def renew(self) -> None:
        """Let the next command connect again, which proves that the guest still has the pinned key and accepts us."""
        self.link.renew()

    def options(self) -> list[str]:
        """Return the options that make ssh and rsync share the kept connection and trust only the pinned key."""
        return self.link.options()

    def own_config(self) -> str:
        """Return an SSH configuration with these options, for programs that take none."""
        return self.link.own_config()

    def script(self, script: str, take: Callable[[bytes], None], limits: Limits | None = None) -> Running:
        """Send `script` and return at once, as Link.script() does."""
        return self.link.script(script, take, limits)

    def check(self, command: str, what: str, *, timeout: float | None = None) -> str:
        """Run a command and return its output. Raise CommandFailed, naming `what`, unless it exits with 0."""
        done: Result = self.run(command, hide=True, warn=True, timeout=timeout)
        if not done.ok:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_TAIL:]
            tail = "\n".join(map(clipped, said))
            raise CommandFailed(f"{self.alias}: {what} failed with exit code {done.exited}", tail or None)
        return str(done.stdout)

    def sudo(self, command: str, **options: Any) -> Any:  # noqa: ANN401 - Result or Promise, as run()
        """Run a command as root, or as `user`, by sudo without a password."""
        user = options.pop("user", None) or "root"
        options.pop("password", None)
        return self.run(f"sudo -n -u {quote(user)} -- sh -c {quote(command)}", **options)

    def put(
        self,
        local: str | Path,
        remote: str | None = None,
        *,
        preserve_mode: bool = True,
        limits: Limits = FILE_LIMITS,
    ) -> None:
        """Copy a file into the guest, by default into the home directory. Raise CommandFailed, OSError, Unreachable."""
        there = remote or Path(local).name
        upload(self.link, Path(local), there, preserve_mode=preserve_mode, limits=limits)

    def get(
        self,
        remote: str,
        local: str | Path | None = None,
        *,
        preserve_mode: bool = True,
        limits: Limits = FILE_LIMITS,
    ) -> None:
        """Copy a file from the guest, by default into the current directory. Raise as put() does."""
        here = Path(local or Path(remote).name)
        download(self.link, remote, here, preserve_mode=preserve_mode, limits=limits)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise UsageError(
            "a Guest offers run, sudo, put and get", "use `./inv ssh` for a shell, and ssh -F for tunnels"
        )

    shell = sftp = forward_local = forward_remote = open_gateway = create_session = _refuse
