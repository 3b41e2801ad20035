"""Make a VM what its host file says: observe, plan, show, apply, observe again."""

from __future__ import annotations

import fcntl
import io
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from swarm import access, images, ssh
from swarm.console import Talk
from swarm.deadline import Deadline
from swarm.errors import HypervisorError, InventoryError, VerificationFailed
from swarm.files import private_dir
from swarm.hypervisor.connection import Libvirt
from swarm.hypervisor.domain import Domain
from swarm.hypervisor.network import Network
from swarm.hypervisor.storage import Pool, Volume, find_pool, make_pool
from swarm.inventory import EMBEDDED, Host, locate, size
from swarm.paths import state_dir
from swarm.plan import Plan
from swarm.ssh.guest import Guest
from swarm.text import amount, seconds
from swarm.vm import desired, fitness, shape
from swarm.vm import seed as seeds
from swarm.vm.desired import Note
from swarm.vm.difference import changes, pending, refuse
from swarm.vm.ladder import Ladder, Rung, wait_for_guest
from swarm.vm.observe import Observed, observe, share_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SHUTDOWN", "TIMEOUT", "busy", "clean", "console_log", "make_plan", "provision", "wait"]

# Seconds that a whole provisioning may wait for its guest. A boot under emulation takes one or two minutes on a quiet machine.
TIMEOUT = 900.0

SHUTDOWN = 90.0  # seconds that a guest has to power off before the plug is pulled; systemd's own limit for a unit is 90
_EJECT = 60.0  # seconds that a guest has to give the seed's disk back
_SPARE = 1 << 30  # bytes that stay free in a pool beside a new base image, for the overlay's first growth
_CONSOLE = 16 * 1024  # bytes of the console that a failure's last lines are taken from


@contextmanager
def busy(host: Host, talk: Talk) -> Iterator[None]:
    """Hold the host for the block: another run on the same host waits for its turn, and says so."""
    folder = private_dir(private_dir(state_dir()) / "locks")
    with (folder / f"{host.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with talk.step(f"waiting for another run on {host.name}"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_plan(host: Host, connection: Libvirt, *, restart: bool = False) -> tuple[Plan, Observed]:
    """Return what would change and what there is. Raise a SwarmError where the wish cannot be fulfilled, before anything is changed."""
    observed = observe(host, connection)
    refuse(host, observed)
    plan = Plan(host.name, tuple(changes(host, observed, restart=restart)))
    keys = {change.key for change in plan}
    if keys & {"domain", "start"} and (problem := share_problem(host, connection)):
        share = host.vm.virtiofs
        hint = f"make the folder (mkdir -p {share.source}), or leave vm.virtiofs out" if share else None
        raise InventoryError(
            f"{locate(host.name, 'vm', 'virtiofs', 'source')} vm.virtiofs.source: {problem}", hint
        )
    if observed.domain is None:
        fitness.check(connection, observed.kind)
    return plan, observed


def provision(
    host: Host, talk: Talk, *, plan_only: bool = False, restart: bool = False, limit: float = TIMEOUT
) -> Plan:
    """Bring the VM of `host` to what its file says, and return what was (or, with `plan_only`, would be) changed.

    `limit` is in seconds, for all waiting together. A second call changes nothing and says so.
    """
    start = time.monotonic()
    with busy(host, talk), Libvirt(host.hypervisor.uri) as connection:
        plan, observed = make_plan(host, connection, restart=restart)
        if observed.domain and (waiting := pending(observed.domain)) and not restart:
            talk.warn(f"{', '.join(waiting)}: waits for the VM's next start; --restart does it now")
        if not plan:
            talk.done(f"{host.name}: nothing to do")
            return plan
        for change in plan:
            talk.say(change.line())
        if plan_only:
            return plan
        if observed.domain is None and observed.kind == "qemu":
            talk.warn("no KVM works here, so the VM is emulated: a boot takes minutes, not seconds")
        if connection.embedded and (reason := connection.embedded.no_way_out):
            talk.warn(f"the VM will reach no network outside: {reason}")
        work = _Work(host, connection, talk, observed, Deadline(limit))
        for key in dict.fromkeys(change.key for change in plan):
            work.apply(key)
        left, _ = make_plan(host, connection)
        if left:
            raise VerificationFailed(
                f"{host.name}: after all changes this is still to do: {'; '.join(change.line() for change in left)}",
                "run the same command again; if it stays, it is a defect of swarm",
            )
    ssh.write_config(access.target(host))
    talk.done(
        f"{host.name} is ready at {host.vm.ip} ({seconds(time.monotonic() - start)}): ./inv ssh --host {host.name}"
    )
    return plan


class _Work:
    """One run's state while changes are applied: what was made so far."""

    def __init__(
        self, host: Host, connection: Libvirt, talk: Talk, observed: Observed, deadline: Deadline
    ) -> None:
        self.host, self.connection, self.talk, self.observed, self.deadline = (
            host,
            connection,
            talk,
            observed,
            deadline,
        )
        self._key: tuple[str, str] | None = None

    def apply(self, key: str) -> None:
        """Apply the changes with this key."""
        steps: dict[str, Callable[[], None]] = {
            "image": self._image,
            "base": self._base,
            "network": self._network,
            "reservation": self._reservation,
            "host_key": self._host_key,
            "disk": self._disk,
            "grow": self._grow,
            "seed": self._seed,
            "domain": self._domain,
            "autostart": self._autostart,
            "restart": self._restart,
            "start": self._start,
            "first_boot": self._first_boot,
            "boot": self._wait,
            "drop_seed": self._drop_seed,
        }
        steps[key]()

    @property
    def pool(self) -> Pool:
        """The pool of the disk's folder, made if there is none."""
        folder = self.host.vm.disk_path.parent
        pool = find_pool(self.connection, folder) or make_pool(self.connection, folder)
        pool.activate()
        return pool

    @property
    def domain(self) -> Domain:
        """The host's domain, which must be there by now."""
        domain = Domain.find_by_uuid(self.connection, desired.domain_uuid(self.host))
        if domain is None:
            raise HypervisorError(
                f"the domain {self.host.vm.domain!r} is gone",
                "somebody removed it meanwhile; run the same command again",
            )
        return domain

    def _image(self) -> None:
        images.ensure(self.host.vm.image, self.talk)

    def _base(self) -> None:
        image = images.ensure(self.host.vm.image, self.talk)
        pool, name = self.pool, desired.base_volume(image.name, image.sha256, image.size)
        # Two hosts of one image, side by side: the second finds what the first put there.
        with (private_dir(state_dir()) / "upload.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            pool.refresh()
            if (there := pool.find(name)) and there.physical == image.size:
                return
            pool.delete(name)
            if pool.available < image.size + _SPARE:
                raise HypervisorError(
                    f"the pool {pool.name} has {amount(pool.available)} free, and a new VM needs {amount(image.size + _SPARE)}",
                    "free some space on the hypervisor; `./inv images --prune` removes base images that no VM uses",
                )
            with self.talk.step(f"uploading image {image.name}") as meter, image.path.open("rb") as source:
                pool.upload(name, source, image.size, "qcow2", lambda done: meter.advance(done, image.size))

    def _network(self) -> None:
        network = Network(self.connection, self.host.hypervisor.network)
        if not network.exists and self.host.hypervisor.uri == EMBEDDED:
            network.define(desired.network_xml(network.name))
        network.activate()

    def _reservation(self) -> None:
        vm = self.host.vm
        Network(self.connection, self.host.hypervisor.network).reserve(vm.mac, str(vm.ip), vm.hostname)

    def _host_key(self) -> None:
        names = (self.host.name, str(self.host.vm.ip))
        if self.observed.domain and self.observed.domain.note:
            ssh.pin(self.host.known_hosts, names, self.observed.domain.note.host_key)
            return
        self._key = ssh.keypair(self.host.name)
        ssh.pin(self.host.known_hosts, names, self._key[1])

    def _disk(self) -> None:
        pool, vm = self.pool, self.host.vm
        image = images.ensure(vm.image, self.talk)
        base = pool.find(desired.base_volume(image.name, image.sha256, image.size))
        if base is None:
            raise HypervisorError(
                f"the base image of {vm.image} is gone from the pool {pool.name}",
                "somebody removed it meanwhile; run the same command again",
            )
        if vm.disk_size < image.virtual_size:
            raise InventoryError(
                f"{locate(self.host.name, 'vm', 'disk_size')} vm.disk_size: the image {vm.image} needs at least {size(image.virtual_size)}"
            )
        pool.delete(vm.disk_path.name)
        pool.overlay(vm.disk_path.name, base, vm.disk_size)

    def _grow(self) -> None:
        if self.domain.active:
            self.domain.grow("vda", self.host.vm.disk_size)
        else:
            self.pool.resize(self.host.vm.disk_path.name, self.host.vm.disk_size)
        self.pool.refresh()

    def _seed(self) -> None:
        assert self._key is not None  # noqa: S101 - "host_key" comes before "seed" in every plan that has it
        files = seeds.seed_files(
            self.host,
            str(uuid.uuid4()),
            self._key,
            access.authorized_keys(self.host),
            has_agent=fitness.has_agent(self.host.vm.image),
        )
        data = seeds.iso(files)
        pool, name = self.pool, desired.seed_volume(self.host)
        pool.delete(name)
        pool.upload(name, io.BytesIO(data), len(data), "raw")

    def _domain(self) -> None:
        observed = self.observed.domain
        seed = observed.seed if observed else self._volume(desired.seed_volume(self.host)).path
        kind = self.observed.kind
        xml = desired.domain_xml(self.host, kind, seed)
        image, pinned = self.host.vm.image, ssh.pinned(self.host.known_hosts) or ""
        note = observed.note if observed and observed.note else Note(self.host.name, kind, pinned, image)
        # The note goes in with the definition, so that a domain without one is never ours.
        definition = xml.replace(
            "</title>", f"</title>\n  <metadata>{note.to_xml(namespace=True)}</metadata>", 1
        )
        self._remember(Domain.define(self.connection, definition), note, xml)

    @staticmethod
    def _remember(domain: Domain, note: Note, xml: str, *, live: bool = False) -> None:
        made = replace(note, spec=shape.hashes(xml), have=shape.hashes(domain.xml()))
        domain.write_note(made.to_xml(), live=live)

    def _autostart(self) -> None:
        self.domain.autostart = self.host.vm.autostart

    def _start(self) -> None:
        self.domain.start()

    def _restart(self) -> None:
        with self.talk.step("shutting down"):
            if not self.domain.shutdown(SHUTDOWN):
                self.talk.warn(f"the guest did not power off within {SHUTDOWN:.0f} s: pulling the plug")
                self.domain.power_off()
        self._start()
        self._wait()

    def _wait(self) -> None:
        wait(self.host, self.connection, self.domain, self.deadline, self.talk)

    def _first_boot(self) -> None:
        self._wait()
        domain, seed = self.domain, self._seed_path()
        with self.talk.step("seed ejected and deleted"):
            domain.detach(seeds.device_xml(seed), "vdb", _EJECT)
            note = domain.note()
            self._remember(
                domain,
                Note.from_xml(note or ""),
                desired.domain_xml(self.host, self.observed.kind, None),
                live=True,
            )
            self._drop_seed()

    def _drop_seed(self) -> None:
        self.pool.delete(desired.seed_volume(self.host))

    def _seed_path(self) -> str:
        return str(self.host.vm.disk_path.parent / desired.seed_volume(self.host))

    def _volume(self, name: str) -> Volume:
        volume = self.pool.find(name)
        if volume is None:
            raise HypervisorError(
                f"{name} is gone from the pool", "somebody removed it meanwhile; run the same command again"
            )
        return volume


def wait(host: Host, connection: Libvirt, domain: Domain, deadline: Deadline, talk: Talk) -> list[Rung]:
    """Climb the ladder of the host's guest until it is ready; return the rungs. Raise Unreachable, naming the rung that was not reached."""
    share = host.vm.virtiofs

    def console() -> list[str]:
        try:
            return console_log(host, connection, _CONSOLE)
        except HypervisorError:
            return []

    target = access.target(host)
    ssh.write_config(target)
    ladder = Ladder(
        Guest(ssh.part_path(host.name), host.name, booting=True),
        user=target.user,
        state=lambda: domain.state,
        console=console,
        share=(share.tag, str(share.target)) if share else None,
        deadline=deadline,
    )
    return wait_for_guest(ladder, talk)


def clean(raw: bytes) -> list[str]:
    """Return a serial log's lines without a terminal's control sequences, and without empty ones."""
    import re

    text = re.sub(
        r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>c78DEHM])", "", raw.decode(errors="replace")
    ).replace("\r", "\n")
    printable = ("".join(sign for sign in line if sign.isprintable()).strip() for line in text.split("\n"))
    return [line for line in printable if line]


def console_log(host: Host, connection: Libvirt, last: int | None = None) -> list[str]:
    """Return the serial console's lines since the VM's start, at most its `last` bytes of them."""
    pool = find_pool(connection, host.vm.disk_path.parent)
    if pool is None:
        raise HypervisorError(
            f"{host.name} has no console log yet", f"./inv provision --host {host.name} makes the VM"
        )
    return clean(pool.read(desired.console_volume(host), last))
