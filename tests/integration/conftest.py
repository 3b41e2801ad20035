"""Fixtures of the integration tests: a real libvirt without a VM, libvirt's test driver, and a real sshd."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from swarm import ssh
from swarm.embedded import Embedded
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import Pool, Volume, find_pool, make_pool
from swarm.ssh.guest import Guest
from swarm.vm import desired
from tests.integration.authority import make_authority
from tests.integration.guest_state import Place, make_place
from tests.integration.pools import FOLDER, MAC
from tests.sshd import Sshd, login_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Dirs

_PROGRAMS = ("unshare", "nsenter", "ip", "libvirtd", "dnsmasq", "qemu-system-x86_64", "qemu-img")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority, from which servers of these tests have theirs."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def able() -> None:
    """Skip where the embedded hypervisor cannot run."""
    lacking = [
        name for name in _PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    ]
    lacking += [] if os.geteuid() == 0 else ["root"]
    if lacking:
        pytest.skip(f"the embedded hypervisor needs {', '.join(lacking)}")


@pytest.fixture(scope="session")
def embedded(able: None, base: Path) -> Iterator[Embedded]:  # noqa: ARG001 - asked for what it skips
    """A running embedded hypervisor; tests clean up what they make in it."""
    state = base / "emb"
    state.mkdir()
    made = Embedded(state)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def libvirt(embedded: Embedded) -> Iterator[Libvirt]:
    """A connection to it."""
    with Libvirt("embedded", embedded) as made:
        yield made


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Libvirt]:
    """An empty hypervisor for one test, since test:///default is shared by the whole process."""
    description = tmp_path / "node.xml"
    description.write_text("<node/>", encoding="utf-8")
    with Libvirt(f"test://{description}") as made:
        yield made


@pytest.fixture
def pool(libvirt: Libvirt) -> Iterator[Pool]:
    """The pool that every host file of the tests names, empty."""
    made = find_pool(libvirt, FOLDER) or make_pool(libvirt, FOLDER)
    yield made
    made.refresh()
    for volume in made.volumes():
        made.delete(volume.name)


@pytest.fixture
def network(libvirt: Libvirt) -> Iterator[Network]:
    """The network that every host file of the tests names, running."""
    made = Network(libvirt, "default")
    if not made.exists:
        made.define(desired.network_xml("default"))
    made.activate()
    yield made
    made.release(MAC)


@pytest.fixture
def base_volume(pool: Pool, tmp_path: Path) -> Volume:
    """A small qcow2 image in the pool."""
    path = tmp_path / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], check=True)
    return pool.upload("base.qcow2", io.BytesIO(path.read_bytes()), path.stat().st_size, "qcow2")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that may log in."""
    path = tmp_path_factory.mktemp("key") / "id"
    path.with_suffix(".pub").write_text(login_key(path), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Sshd]:
    """The server that most tests share."""
    with Sshd(tmp_path_factory.mktemp("sshd"), [keys.with_suffix(".pub").read_text()]) as made:
        yield made


@pytest.fixture
def target(server: Sshd, keys: Path, dirs: Dirs) -> ssh.Target:
    """The server as a guest, its key pinned."""
    return server.target(dirs.hosts / "zap.known_hosts", keys)


@pytest.fixture(scope="module")
def guest(server: Sshd, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """The server as a guest, with one kept connection for all tests."""
    folder = tmp_path_factory.mktemp("pins")
    ssh.write_config(server.target(folder / "guest.known_hosts", keys, name="guest"))
    made = Guest(ssh.part_path("guest"), "guest")
    yield made
    made.close()


@pytest.fixture
def place(server: Sshd, keys: Path, dirs: Dirs) -> Iterator[Place]:
    """A guest with a state directory. Its archives go to one directory."""
    with make_place(server, keys, dirs.hosts.parent) as made:
        made.mirror = dirs.mirrors / made.host
        yield made
