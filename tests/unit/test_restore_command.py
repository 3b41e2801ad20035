"""`inv restore` before it reaches a guest: which host, and is there a guest at all."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.backup.recover import require_mirror
from swarm.commands import restore
from swarm.errors import InventoryError, Refused, SwarmError, UsageError
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.inventory import load
from swarm.paths import ROOT
from swarm.vm.desired import domain_uuid

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs


XML = """<domain type="test"><name>ant</name><uuid>{uuid}</uuid><memory unit="MiB">64</memory>
<os><type>hvm</type></os></domain>"""


@pytest.fixture(autouse=True)
def hosts(dirs: Dirs) -> None:
    """Two hosts."""
    text = (ROOT / "hosts/demo.yaml").read_text(encoding="utf-8")
    for number, name in enumerate(("ant", "bee")):
        own = text.replace("demo", name).replace("de:30", f"de:4{number}").replace("122.30", f"122.4{number}")
        (dirs.hosts / f"{name}.yaml").write_text(own, encoding="utf-8")


def test_a_guest_that_is_gone_is_rebuilt_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a pinned key there is no guest to restore to, and the hint names the option that makes one."""
    assert restore.restore("ant", yes=True) == 1
    shown = capsys.readouterr().err
    assert "ant has no pinned host key, so there is no guest to restore to" in shown
    assert "./inv restore --host ant --rebuild" in shown


def own_address() -> str:
    """Return an address of this machine, which answers at once that nobody there has the pinned key."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address")
        return str(probe.getsockname()[0])


def test_a_vm_that_is_not_there_is_named(dirs: Dirs, capsys: pytest.CaptureFixture[str]) -> None:
    """No answer from a host whose hypervisor has no VM of it says that, and names the option that makes one."""
    path = dirs.hosts / "ant.yaml"
    text = path.read_text(encoding="utf-8").replace("192.168.122.40", own_address())
    path.write_text(text.replace("uri: embedded", "uri: test:///default"), encoding="utf-8")
    host = load("ant")
    ssh.pin(host.known_hosts, ["ant"], ssh.keypair("ant")[1])
    (dirs.mirrors / "ant").mkdir()
    (dirs.mirrors / "ant/openclaw.json").write_text("{}", encoding="utf-8")
    assert restore.restore("ant", yes=True) == 1
    shown = capsys.readouterr().err
    assert "ant has no VM at test:///default, so there is no guest to restore to" in shown
    assert "./inv restore --host ant --rebuild" in shown
    with Libvirt("test:///default") as connection:
        made = Domain.define(connection, XML.format(uuid=domain_uuid(host)))
        assert restore.restore("ant", yes=True) == 1
        made.raw.undefine()
    shown = capsys.readouterr().err
    assert "error: ant: " in shown
    assert "--rebuild" not in shown


@pytest.mark.parametrize(("ip", "option"), [("192.168.122.99", "--ip"), ("", "--rebuild")])
def test_one_host_is_rebuilt_at_a_time(ip: str, option: str) -> None:
    """Rebuilding is for one host, as a whole, and not before there is something to restore."""

    def rebuild(words: str, *, plan_only: bool = False) -> int:
        return restore.redeploy(words, ip, archive="", path="", identity="", plan_only=plan_only, limit=900)

    for words in ("ant,bee", "all", "?*"):
        with pytest.raises(UsageError, match=f"{option} is for one host"):
            rebuild(words)
    with pytest.raises(UsageError, match=f"{option} restores a whole host"):
        rebuild("ant", plan_only=True)
    with pytest.raises(Refused, match="there is no mirror"):
        rebuild("ant")


@pytest.mark.parametrize("ip", ["192.168.122.99", ""])
def test_a_host_with_a_broken_file_is_not_rebuilt(dirs: Dirs, ip: str) -> None:
    """A pattern that means only a host with a broken file ends with what is wrong with that file."""
    (dirs.hosts / "bee.yaml").write_text("vm: 1\n", encoding="utf-8")
    with pytest.raises(InventoryError, match=r"bee\.yaml"):
        restore.redeploy("b*", ip, archive="", path="", identity="", plan_only=False, limit=900)


@pytest.fixture
def half_written(dirs: Dirs) -> Path:
    """The mark that an interrupted backup has left beside a mirror."""
    (dirs.mirrors / "ant").mkdir(parents=True)
    (dirs.mirrors / "ant" / "openclaw.json").write_text("{}", encoding="utf-8")
    marker = dirs.mirrors / ".ant.unfinished"
    marker.touch()
    return marker


def test_a_half_written_mirror_is_not_restored(
    half_written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mirror that a backup did not complete is refused, before a VM is made too, and every way on is named."""
    pinned = load("ant").known_hosts
    pinned.parent.mkdir(parents=True, exist_ok=True)
    pinned.touch()
    assert restore.restore("ant", yes=True) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "is half written, because a backup did not complete it" in shown
    for way in ("./inv restore --host ant --archive latest", "./inv backup --host ant", str(half_written)):
        assert way in shown
    with pytest.raises(Refused, match="is half written"):
        restore.redeploy("ant", "", archive="", path="", identity="", plan_only=False, limit=900)
    half_written.unlink()
    assert require_mirror(load("ant")) == half_written.with_name("ant")


@pytest.mark.parametrize(
    ("archive", "identity", "sentence"),
    [
        ("latest", "", "ant: there is no archive yet at "),
        ("ant-20261101T030000Z", "", "ant: there is no archive 'ant-20261101T030000Z' at "),
        ("latest", "/no/such.key", "/no/such.key"),
    ],
)
def test_nothing_is_created_for_an_archive_that_is_not_there(
    archive: str, identity: str, sentence: str
) -> None:
    """A VM takes minutes to make, so the archive and the key file are looked for first."""
    with pytest.raises(SwarmError, match=sentence):
        restore.redeploy("ant", "", archive=archive, path="", identity=identity, plan_only=False, limit=900)
