"""A guest with a state directory and its mirror, for the tests of backups. A child process can load it too."""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.backup.busy import hold_host
from swarm.backup.catalog import Catalog
from swarm.backup.mirror import Known, Refreshed, Source, refresh
from swarm.backup.now import Report, back_up
from swarm.console import Talk, screen
from swarm.inventory.backup import BackupSettings
from swarm.ssh.guest import Guest
from tests.sshd import Sshd
from tests.state import make_state

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Place", "archive_names", "make_place", "own_server", "run_backup", "touch"]

_ID = 1501


@dataclass
class Place:
    """The account `user`, whose home is `home`, in the guest that the SSH configuration `config` reaches."""

    config: Path
    alias: str
    user: str
    home: Path
    mirror: Path
    ids: tuple[int, int]
    host: str = "zap"
    hostname: str = field(default_factory=socket.gethostname)
    settings: BackupSettings = field(default_factory=BackupSettings)
    known: Known = field(default_factory=Known)
    root: bool = True

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.home / ".openclaw"

    @property
    def unfinished(self) -> Path:
        """The mark of a mirror that is being changed."""
        return self.mirror.with_name(f".{self.mirror.name}.unfinished")

    def own(self) -> None:
        """Give everything in the home directory to the account."""
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, *self.ids, follow_symlinks=False)

    def guest(self) -> Guest:
        """Return the guest."""
        return Guest(self.config, self.alias, root=self.root)

    def backup(self, *, plan_only: bool = False, force: bool = False) -> Refreshed:
        """Bring the mirror up to date, and remember what was recorded."""
        source = Source(self.guest().link, self.host, self.hostname, self.user, str(self.state))
        try:
            with hold_host(self.host) as lock:
                done = refresh(
                    source,
                    self.mirror,
                    self.settings,
                    Talk(screen(), quiet=True),
                    lock=lock,
                    known=self.known,
                    plan_only=plan_only,
                    force=force,
                )
        finally:
            source.link.give_up()
        self.known = done.known if not plan_only else self.known
        return done

    def log_in_as_account(self, server: Sshd, keys: Path) -> None:
        """Reach the guest as the account from now on, without root's rights."""
        target = server.target(self.mirror.parent.parent / "zap.known_hosts", keys)
        ssh.write_config(replace(target, user=self.user))
        self.root = False

    def env(self) -> dict[str, str]:
        """Return the environment for a child process."""
        return {**os.environ, "PYTHONPATH": "."}

    def save(self) -> Path:
        """Write this to a file that load() reads."""
        path = self.mirror.parent / "place.json"
        values = {
            "config": str(self.config),
            "alias": self.alias,
            "user": self.user,
            "home": str(self.home),
            "mirror": str(self.mirror),
            "ids": self.ids,
            "settings": self.settings.model_dump(mode="json"),
        }
        path.write_text(json.dumps(values), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str) -> Place:
        """Read what save() wrote."""
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(
            Path(values["config"]),
            values["alias"],
            values["user"],
            Path(values["home"]),
            Path(values["mirror"]),
            tuple(values["ids"]),
            settings=BackupSettings.model_validate(values["settings"]),
        )


@contextmanager
def make_place(server: Sshd, keys: Path, folder: Path) -> Iterator[Place]:
    """Give an account of its own, with a state directory, in the guest that `server` stands for. It needs root."""
    if os.geteuid():
        pytest.skip("an account of its own needs root")
    home, accounts = folder / "home", server.folder / "passwd"
    before = accounts.read_text(encoding="utf-8")
    make_state(home / ".openclaw")
    # The server sees this very file as /etc/passwd, so it is not replaced.
    accounts.write_text(f"{before}claw:x:{_ID}:{_ID}::{home}:/bin/sh\n", encoding="utf-8")
    ssh.write_config(server.target(folder / "zap.known_hosts", keys))
    config = ssh.part_path("zap")
    place = Place(config, "zap", "claw", home, folder / "openclaw" / "zap", (_ID, _ID))
    place.own()
    yield place
    Guest(config, "zap").close()
    accounts.write_text(before, encoding="utf-8")


@contextmanager
def own_server(folder: Path, keys: Path) -> Iterator[Sshd]:
    """Give a server of its own, which sees the mounts of this moment, and at which any account can log in."""
    folder.mkdir()
    server = Sshd(folder, [keys.with_suffix(".pub").read_text(encoding="utf-8")])
    (folder / "authorized_keys").chmod(0o644)  # sshd reads it as the account
    with server:
        yield server


def run_backup(place: Place, *, force: bool = False, **changed: object) -> Report:
    """Back the guest up, archive included, with changed settings."""
    place.settings = place.settings.model_validate({**place.settings.model_dump(mode="json"), **changed})
    source = Source(place.guest().link, place.host, None, place.user, str(place.state))
    return back_up(source, place.settings, Talk(screen(), quiet=True), force=force)


def touch(place: Place, text: str) -> None:
    """Change something in the guest."""
    (place.state / "cron" / "jobs.json").write_text(text, encoding="utf-8")


def archive_names(place: Place) -> list[str]:
    """Return the names of the guest's archives at all destinations that answer."""
    return [str(name) for _, name in Catalog(place.host, place.settings).names()]
