"""`inv restore --ip` and `--rebuild`: every step in turn. Only what needs a VM is replaced, at the verbs' own seams."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyrage
import pytest

from swarm.backup.changes import Changes
from swarm.backup.manifest import Manifest
from swarm.backup.naming import Name
from swarm.backup.owners import Owners
from swarm.backup.repository import open_destinations
from swarm.backup.restore import Restored
from swarm.backup.store import Place, store
from swarm.commands import restore
from swarm.errors import CommandFailed, UsageError
from swarm.fleet import unfinished
from swarm.guest.verify import Check, Verification
from swarm.inventory import BackupSettings, load
from swarm.paths import ROOT
from swarm.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from swarm.backup.restore import Target
    from swarm.inventory import Host
    from tests.conftest import Dirs

OLD, NEW = "192.168.122.30", "192.168.122.99"
STEPS = ["provision", "install", "customize", "restore", "verify"]


class Machine:
    """The VM that is made: remembers each step, with the address at which the host was then, and what was restored."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, str]] = []
        self.files: dict[str, str] = {}
        self.failing, self.broken = "", False
        link = SimpleNamespace(connect=lambda: None, direct=False)
        patch.setattr("swarm.vm.provision.provision", self.planned("provision"))
        patch.setattr("swarm.commands.guest.link", lambda _: link)
        patch.setattr("swarm.commands.guest.installing_all", self.planned("install"))
        patch.setattr("swarm.commands.guest.customizing", self.planned("customize"))
        patch.setattr("swarm.fleet.parts.connect", lambda _: nullcontext(link))
        patch.setattr("swarm.backup.restore.restore", self.restore)
        patch.setattr("swarm.commands.guest.connect", lambda _: link)
        patch.setattr("swarm.guest.verify.verify", self.verify)

    def enter(self, step: str) -> None:
        """Begin a step. Raise the error that it is to end with."""
        self.steps.append((step, load("demo").address))
        if step == self.failing:
            raise CommandFailed(f"demo: {step} failed")

    def planned(self, step: str) -> Callable[..., Plan]:
        """Return a verb that returns a plan. The first one pins the key of the new VM."""

        def verb(host: Host, *_: object, **__: object) -> Plan:
            self.enter(step)
            host.known_hosts.touch()
            return Plan(host.name)

        return verb

    def restore(self, target: Target, tree: Path, manifest: Manifest, *_: object, **options: Any) -> Restored:
        """Remember the files that would be copied, which nobody was asked about."""
        self.enter("restore")
        assert options["confirm"] is None
        self.files = {each.path: (tree / each.path).read_text(encoding="utf-8") for each in manifest.entries}
        return Restored(target.host, Changes(), changed=True)

    def verify(self, *_: object, **__: object) -> Verification:
        """Return one promise."""
        self.enter("verify")
        check = Check("the gateway answers", "broken" if self.broken else "kept", "", "gateway")
        return Verification("demo", (check,))


@pytest.fixture
def machine(dirs: Dirs, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The host demo without a VM, and its mirror."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    (dirs.hosts / "demo.yaml").write_text(text, encoding="utf-8")
    (dirs.mirrors / "demo").mkdir()
    (dirs.mirrors / "demo/openclaw.json").write_text("{}", encoding="utf-8")
    monkeypatch.delenv("SWARM_AGE_IDENTITY", raising=False)
    return Machine(monkeypatch)


def redeploy(ip: str = NEW, archive: str = "", identity: str = "") -> int:
    """Run the command."""
    return restore.redeploy("demo", ip, archive=archive, path="", identity=identity, plan_only=False, limit=9)


def test_every_step_works_at_the_new_address(machine: Machine) -> None:
    """--ip writes the address first, then makes the VM, installs, customizes, restores the mirror and verifies."""
    assert redeploy() == 0
    assert machine.steps == [(step, NEW) for step in STEPS]
    assert machine.files == {"openclaw.json": "{}"}
    before = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    after = load("demo").known_hosts.with_name("demo.yaml").read_text(encoding="utf-8")
    assert after == before.replace(OLD, NEW)


def test_a_rebuilt_host_keeps_its_address(machine: Machine) -> None:
    """--rebuild takes the same steps at the address of the host file."""
    assert redeploy(ip="") == 0
    assert machine.steps == [(step, OLD) for step in STEPS]


@pytest.mark.parametrize(("failing", "kept"), [("", False), ("verify", False), ("restore", True)])
def test_an_unfinished_upgrade_ends_with_the_restore(
    machine: Machine, failing: str, capsys: pytest.CaptureFixture[str], *, kept: bool
) -> None:
    """Once the state is restored, nobody can go back to the one before an old upgrade, whose archive is named."""
    note = unfinished.Unfinished("1", "2", "", "demo-1.tar.zst", 1.0, ())
    unfinished.save("demo", note)
    machine.failing = failing
    assert redeploy(ip="") == int(bool(failing))
    assert unfinished.load("demo") == (note if kept else None)
    shown = "".join(capsys.readouterr().err.split())
    assert ("thearchivedemo-1.tar.zsthasthestateof1970-01-0100:00UTC,beforeit" in shown) is not kept


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_fails_is_the_last_one(machine: Machine, step: str) -> None:
    """Nothing is restored into a guest that is not complete, and the command does not end with success."""
    machine.failing = step
    assert redeploy() == 1
    assert [each for each, _ in machine.steps] == STEPS[: STEPS.index(step) + 1]


def test_a_broken_promise_is_no_success(machine: Machine) -> None:
    """If the verification at the end finds a broken promise, the exit code says so."""
    machine.broken = True
    assert redeploy() == 1


def test_an_encrypted_archive_is_opened_before_anything_is_made(
    machine: Machine, dirs: Dirs, tmp_path: Path
) -> None:
    """A wrong or missing secret key is told before the host file changes; the right one restores the archive."""
    own, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    for name, key in (("own", own), ("other", other)):
        (tmp_path / name).write_text(f"{key}\n", encoding="ascii")
    settings = BackupSettings(recipient=str(own.to_public()))
    (place,) = [Place(each) for each in open_destinations("demo", settings)]

    def manifest(packed: Any) -> Manifest:  # noqa: ANN401
        return Manifest("demo", "", "openclaw", packed.entries)

    made = Name("demo", datetime(2026, 11, 1, 3, tzinfo=UTC), encrypted=True)
    store(made, dirs.mirrors / "demo", Owners("openclaw", "openclaw", {}), [place], settings, manifest)
    for identity, words in ((str(tmp_path / "other"), "other can't decrypt"), ("", "encrypted to")):
        with pytest.raises(UsageError, match=words):
            redeploy(archive="latest", identity=identity)
    assert (machine.steps, load("demo").address) == ([], OLD)
    assert redeploy(archive="latest", identity=str(tmp_path / "own")) == 0
    assert machine.files == {"openclaw.json": "{}"}
