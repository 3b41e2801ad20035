"""What a provisioning can do: one action for each kind of change, and the work that an action is applied to."""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from swarm import access, images, ssh
from swarm.errors import HypervisorError, InventoryError, Refused
from swarm.files import private_dir
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.filters import Filter
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import Pool, find_pool, make_pool
from swarm.hypervisor.usage import usage
from swarm.inventory import EMBEDDED, Host, locate, size
from swarm.locks import hold
from swarm.paths import state_dir
from swarm.text import amount
from swarm.vm import desired, egress, fitness, shape
from swarm.vm import seed as seeds
from swarm.vm.desired import Note
from swarm.vm.ready import SHUTDOWN, wait
from swarm.vm.share import make_share

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.console import Talk
    from swarm.deadline import Deadline
    from swarm.hypervisor.connection import Libvirt
    from swarm.plan import Plan
    from swarm.vm.observe import Observed

__all__ = ["Action", "Work", "remember"]

_EJECT = 60.0  # seconds that a guest has to release the seed's disk
_SPARE = 1 << 30  # bytes that stay free in a pool beside a new base image, for the overlay's first growth
_AGAIN = "it was removed during this run; run the command again"


@dataclass
class Work:
    """One run's state while its changes are applied. `key` is the guest's new host key: private, public."""

    host: Host
    connection: Libvirt
    talk: Talk
    observed: Observed
    deadline: Deadline
    key: tuple[str, str] | None = None

    @property
    def pool(self) -> Pool:
        """The pool of the disk's folder. Both are made if they do not exist."""
        folder = self.host.vm.disk_path.parent
        pool = find_pool(self.connection, folder) or make_pool(self.connection, folder)
        pool.activate(build=True)
        return pool

    @property
    def domain(self) -> Domain:
        """The host's domain. Raise HypervisorError if it is gone."""
        domain = Domain.find_by_uuid(self.connection, desired.domain_uuid(self.host))
        if domain is None:
            raise HypervisorError(f"the domain {self.host.vm.domain!r} is gone", _AGAIN)
        return domain

    @property
    def network(self) -> Network:
        """The host's network, which may not exist yet."""
        return Network(self.connection, self.host.hypervisor.network)


def _fetch_image(work: Work) -> None:
    images.ensure(work.host.vm.image, work.talk)


def _upload_base(work: Work) -> None:
    image = images.ensure(work.host.vm.image, work.talk)
    name = desired.base_volume(image.name, image.sha256, image.size)
    # Of two hosts with one image, side by side, the second finds the pool that the first has made, and its upload.
    lock = private_dir(state_dir()) / "upload.lock"
    with hold(lock, waiting=lambda: work.talk.step("waiting for another upload")):
        pool = work.pool
        if (present := pool.find(name)) and present.physical == image.size:
            return
        if present:
            _delete_broken_base(work, pool, present.name, present.path)
        needed = image.size + _SPARE
        if pool.available < needed:
            raise HypervisorError(
                f"the pool {pool.name} has {amount(pool.available)} free, and a new VM needs {amount(needed)}",
                "free some space on the hypervisor; ./inv images --prune removes base images that no VM uses",
            )
        with work.talk.step(f"uploading image {image.name}") as meter, image.path.open("rb") as source:
            pool.upload(name, source, image.size, "qcow2", lambda done: meter.advance(done, image.size))


def _delete_broken_base(work: Work, pool: Pool, name: str, path: str) -> None:
    """Delete a base image that an interrupted upload left, unless a domain uses it all the same."""
    if user := usage(work.connection).of([path]).get(path):
        raise Refused(
            f"the base image {path} has another size than its name says, and the domain {user!r} uses it",
            f"destroy {user!r} first, if its disk is damaged",
        )
    pool.delete(name)


def _start_network(work: Work) -> None:
    with hold(private_dir(state_dir()) / "network.lock"):  # of two hosts side by side, one makes the network
        network = work.network
        if not network.exists and work.host.hypervisor.uri == EMBEDDED:
            network.define(desired.network_xml(network.name, work.host.vm.ip))
        network.activate()


def _release(work: Work) -> None:
    for stale in work.observed.stale:
        network = Network(work.connection, stale.network)
        if network.exists:
            network.release(stale.mac)


def _reserve(work: Work) -> None:
    vm = work.host.vm
    work.network.reserve(vm.mac, str(vm.ip), vm.hostname)


def _filter(work: Work) -> None:
    host, network = work.host, work.observed.network or work.observed.planned
    if network is None:
        raise HypervisorError(f"the network {host.hypervisor.network} is gone", _AGAIN)
    xml = egress.filter_xml(host, network, work.observed.filter.own)
    Filter(work.connection, egress.filter_name(host)).define(xml)


def _pin_host_key(work: Work) -> None:
    host = work.host
    names = (host.name, str(host.vm.ip))
    if work.observed.domain and work.observed.domain.note:
        ssh.pin(host.known_hosts, names, work.observed.domain.note.host_key)
        return
    work.key = ssh.keypair(host.name)
    ssh.pin(host.known_hosts, names, work.key[1])


def _make_disk(work: Work) -> None:
    pool, vm = work.pool, work.host.vm
    image = images.ensure(vm.image, work.talk)
    base = pool.find(desired.base_volume(image.name, image.sha256, image.size))
    if base is None:
        raise HypervisorError(f"the base image of {vm.image} is gone from the pool {pool.name}", _AGAIN)
    if vm.disk_size < image.virtual_size:
        raise InventoryError(
            f"{locate(work.host.name, 'vm', 'disk_size')} vm.disk_size: "
            f"the image {vm.image} needs at least {size(image.virtual_size)}"
        )
    pool.overlay(vm.disk_path.name, base, vm.disk_size)


def _grow_disk(work: Work) -> None:
    vm = work.host.vm
    if work.domain.active:
        work.domain.grow("vda", vm.disk_size)
    else:
        work.pool.resize(vm.disk_path.name, vm.disk_size)
    work.pool.refresh()


def _make_seed(work: Work) -> None:
    assert work.key is not None  # noqa: S101 - in every plan, HOST_KEY comes before SEED
    host = work.host
    files = seeds.seed_files(
        host,
        str(uuid.uuid4()),
        work.key,
        access.authorized_keys(host),
        has_agent=fitness.has_agent(host.vm.image),
    )
    data = seeds.iso(files)
    pool, name = work.pool, desired.seed_volume(host)
    pool.delete(name)
    pool.upload(name, io.BytesIO(data), len(data), "raw")


def _define_domain(work: Work) -> None:
    host, old = work.host, work.observed.domain
    xml = desired.domain_xml(host, work.observed.kind, old.seed if old else _seed_path(work))
    note = replace(
        (old.note if old else None) or _new_note(work),
        disk=(old.own_disk if old else None) or str(host.vm.disk_path),
    )
    # The note goes in with the definition, so that no domain of swarm is ever without one.
    metadata = f"<metadata>{note.to_xml(namespace=True)}</metadata>"
    definition = xml.replace("</title>", f"</title>\n  {metadata}", 1)
    remember(Domain.define(work.connection, definition), note, xml)


def _new_note(work: Work) -> Note:
    host = work.host
    pinned = ssh.pinned(host.known_hosts) or ""
    return Note(host.name, work.observed.kind, pinned, host.vm.image, disk=str(host.vm.disk_path))


def remember(domain: Domain, note: Note, xml: str, *, live: bool = False) -> None:
    """Write `note` into the domain's metadata, with the hashes of `xml` and of what libvirt made of it."""
    made = replace(note, spec=shape.hashes(xml), have=shape.hashes(domain.xml()))
    domain.write_note(made.to_xml(), live=live)


def _set_autostart(work: Work) -> None:
    work.domain.autostart = work.host.vm.autostart


def _start(work: Work) -> None:
    make_share(work.host, work.connection)
    work.domain.start()


def _restart(work: Work) -> None:
    with work.talk.step("shutting down"):
        if not work.domain.shutdown(SHUTDOWN):
            work.talk.warn(f"the guest did not power off within {SHUTDOWN:.0f} s and is powered off hard")
            work.domain.power_off()
    _start(work)
    _wait(work)


def _wait(work: Work) -> None:
    wait(work.host, work.connection, work.domain, work.deadline, work.talk)


def _finish_first_boot(work: Work) -> None:
    _wait(work)
    domain = work.domain
    path = str(work.host.vm.disk_path.parent / desired.seed_volume(work.host))
    with work.talk.step("seed ejected and deleted"):
        domain.detach(seeds.device_xml(path), "vdb", _EJECT)
        written = domain.note()
        note = Note.from_xml(written) if written else _new_note(work)
        remember(domain, note, desired.domain_xml(work.host, work.observed.kind, None), live=True)
        _drop_seed(work)


def _drop_seed(work: Work) -> None:
    work.pool.delete(desired.seed_volume(work.host))


def _seed_path(work: Work) -> str:
    volume = work.pool.find(desired.seed_volume(work.host))
    if volume is None:
        raise HypervisorError("the seed is gone from the pool", _AGAIN)
    return volume.path


class Action(StrEnum):
    """What can be done to a VM. Each member is the `key` of a change and can apply it."""

    function: Callable[[Work], None]

    def __new__(cls, key: str, function: Callable[[Work], None]) -> Self:
        """Make the member that has `key` as its value and is applied by `function`."""
        member = str.__new__(cls, key)
        member._value_ = key
        member.function = function
        return member

    IMAGE = ("image", _fetch_image)
    BASE = ("base", _upload_base)
    NETWORK = ("network", _start_network)
    RELEASE = ("release", _release)
    RESERVATION = ("reservation", _reserve)
    FILTER = ("filter", _filter)
    HOST_KEY = ("host_key", _pin_host_key)
    SEED = ("seed", _make_seed)
    DOMAIN = ("domain", _define_domain)
    DISK = ("disk", _make_disk)
    GROW = ("grow", _grow_disk)
    AUTOSTART = ("autostart", _set_autostart)
    RESTART = ("restart", _restart)
    START = ("start", _start)
    FIRST_BOOT = ("first_boot", _finish_first_boot)
    BOOT = ("boot", _wait)
    DROP_SEED = ("drop_seed", _drop_seed)

    @classmethod
    def of(cls, plan: Plan) -> list[Self]:
        """Return the actions of a plan in order. One action may stand for several changes."""
        known = {action.value: action for action in cls}
        return [known[key] for key in dict.fromkeys(change.key for change in plan)]

    def apply(self, work: Work) -> None:
        """Do it. Raise a SwarmError if it fails; what was done before stays, and a second run goes on from there."""
        self.function(work)
