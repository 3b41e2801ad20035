"""`inv hosts --check`: find where host files, other files, timers and hypervisors disagree. Changes nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from swarm import timers
from swarm.embedded import Embedded
from swarm.errors import InventoryError, SwarmError, explained
from swarm.fleet import claims, instances
from swarm.fleet.ask import ask
from swarm.inventory import EMBEDDED, check_network, cross_check, load, locate, names
from swarm.inventory.fields import NAME
from swarm.paths import hosts_dir, mirrors_dir, state_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from swarm.console import Talk
    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host

__all__ = ["Finding", "Report", "check"]


@dataclass(frozen=True)
class Finding:
    """One disagreement: the host that it is about, one sentence, and what to do about it."""

    host: str
    message: str
    hint: str


@dataclass
class Report:
    """What was found, and notes about what could not be checked."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, host: str, message: str, hint: str | None) -> None:
        """Add a finding."""
        self.findings.append(Finding(host, message, hint or f"edit hosts/{host}.yaml"))

    def extend(self, found: Iterable[tuple[str, str, str]]) -> None:
        """Add findings, each given as host, sentence and hint."""
        for entry in found:
            self.add(*entry)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {"findings": [asdict(each) for each in self.findings], "notes": self.notes}


def check(talk: Talk) -> Report:
    """Return every disagreement. A hypervisor that does not answer, or would have to be started, is only noted."""
    report = Report()
    hosts = _files(report)
    known = set(names())
    _listed(report, hosts, known)
    _strays(report, known)
    found: dict[str, list[claims.Claimed]] = {}
    uris = [host.hypervisor.uri for host in hosts if not host.foreign]
    uris += [EMBEDDED] if Embedded().running else []  # also if no host file names it now
    for uri in dict.fromkeys([*uris, *claims.earlier(hosts)]):
        answer = _hypervisor(report, uri, [host for host in hosts if host.hypervisor.uri == uri], talk)
        if answer is not None:
            found[uri] = answer
    for domains in found.values():
        report.extend(claims.unclaimed(domains, known))
    report.extend(claims.left_behind(hosts, found))
    return report


def _files(report: Report) -> list[Host]:
    """Check the host files and return the valid ones. Each conflict is reported once, for the later host."""
    hosts: list[Host] = []
    for name in names():
        try:
            host = load(name)
            hosts.append(host)
            cross_check(hosts, [name])
        except Exception as error:  # noqa: BLE001 - a broken file must not hide the others
            problem = explained(error)
            report.add(name, problem.message, problem.hint)
    return hosts


def _listed(report: Report, hosts: list[Host], known: set[str]) -> None:
    """Compare with the instances file."""
    try:
        listed = instances.read()
    except SwarmError as error:
        report.add("", error.message, error.hint)
        return
    if not listed.exists:
        report.notes.append(f"{listed.path} does not exist; ./inv new makes it")
        return
    for host in hosts:
        there = listed.entries.get(host.name)
        if there is None:
            report.add(host.name, f"{host.name} is not in {listed.path}", "./inv hosts --check --fix adds it")
        elif listed.differs(host.name, instances.entry(host)):
            wanted = instances.entry(host)
            other = ", ".join(f"{key} {there.get(key)!r}" for key in wanted if there.get(key) != wanted[key])
            report.add(
                host.name,
                f"{listed.path} has other values for {host.name}: {other}",
                "./inv hosts --check --fix corrects them",
            )
    for name in listed.entries:
        if name not in known:
            report.add(name, f"{listed.path} lists {name}, which has no host file", _gone(name))


def _gone(name: str) -> str:
    if NAME.fullmatch(name):
        return f"./inv remove --host {name} removes what is left of it, or write hosts/{name}.yaml"
    return "remove the entry by hand"


def _strays(report: Report, known: set[str]) -> None:
    """Find what belongs to hosts without a host file."""
    for path in sorted(hosts_dir().glob("*.known_hosts")):
        if path.stem not in known:
            report.add(path.stem, f"{path} pins the key of a host without a host file", _gone(path.stem))
    for kind, name in timers.enabled():
        if name not in known:
            report.add(
                name, f"the timer openclaw-{kind}@{name} runs for a host without a host file", _gone(name)
            )
    for what, folder in (("mirror", mirrors_dir()), ("record of backups", state_dir() / "backup")):
        for path in _folders(folder):
            if path.name not in known:
                hint = f"write hosts/{path.name}.yaml to restore it, or move the directory away"
                report.add(path.name, f"{path} is the {what} of a host without a host file", hint)


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir())


def _hypervisor(report: Report, uri: str, hosts: list[Host], talk: Talk) -> list[claims.Claimed] | None:
    """Compare hosts with their hypervisor. Return the domains there that swarm made, or None if it was not asked."""

    def question(connection: Libvirt) -> tuple[Report, list[claims.Claimed]]:
        found = Report()  # of its own: an answer that comes too late must not change what is shown
        for host in hosts:
            _on_hypervisor(found, host, connection)
        return found, claims.claimed(connection)

    if uri == EMBEDDED and not Embedded().running:
        if Embedded().exists:
            report.notes.append("the embedded hypervisor is not running, so it was not asked")
        return None
    try:
        with talk.step(f"asking {uri}", silent=True):
            found, domains = ask(uri, question)
    except SwarmError as error:
        report.notes.append(f"{uri} was not asked: {error.message}")
        return None
    report.findings += found.findings
    return domains


def _on_hypervisor(report: Report, host: Host, connection: Libvirt) -> None:
    """Compare a host with its hypervisor's network, disks and domains."""
    from swarm.hypervisor.domain import Domain
    from swarm.hypervisor.network import Network
    from swarm.hypervisor.usage import usage
    from swarm.vm import desired
    from swarm.vm.observe import network_facts

    network = Network(connection, host.hypervisor.network)
    if network.exists:
        facts = network_facts(network.name, network.xml(), network.leases())
        try:
            check_network(host, facts)
        except InventoryError as error:
            report.add(host.name, error.message, error.hint)
        for entry in network.reservations():
            if entry.mac == host.vm.mac and entry.ip != str(host.vm.ip):
                place = locate(host.name, "vm", "ip")
                report.add(
                    host.name,
                    f"{place} the network {network.name} reserves {entry.ip or 'no address'} for {host.vm.mac}",
                    f"./inv plan --host {host.name} shows what would change",
                )
    own = desired.domain_uuid(host)
    namesake = Domain.find(connection, host.vm.domain)
    if namesake and namesake.uuid != own:
        report.add(
            host.name,
            f"{locate(host.name, 'vm', 'domain')} {host.hypervisor.uri} has a domain {host.vm.domain!r} that is not "
            "this host's",
            f"give {host.name} another vm.domain",
        )
    used = usage(connection, besides=own)
    taken = used.of([str(host.vm.disk_path)]) | {host.vm.mac: used.macs.get(host.vm.mac, "")}
    for what, user in taken.items():
        if user:
            report.add(
                host.name, f"{what} is used by the domain {user!r}", f"choose another value for {host.name}"
            )
