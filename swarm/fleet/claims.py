"""Which host a domain on a hypervisor belongs to, and which of them no host file claims, or claims elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarm import history
from swarm.inventory.fields import NAME
from swarm.inventory.uri import check, place, remote
from swarm.text import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from swarm.hypervisor.connection import Libvirt
    from swarm.inventory import Host

__all__ = ["Claimed", "claimed", "earlier", "left_behind", "unclaimed"]

_DAYS = 30  # in which a hypervisor that a host has left is still asked


@dataclass(frozen=True)
class Claimed:
    """A domain that swarm made for a host, as its note says. `uri` is libvirt's own, and `key` the guest's host key."""

    host: str
    domain: str
    uri: str
    key: str
    disk: str


def claimed(connection: Libvirt) -> list[Claimed]:
    """Return the domains of a hypervisor that swarm made. Raise HypervisorError."""
    from swarm.hypervisor.domain import Domain
    from swarm.vm.desired import Note

    found = []
    for domain in Domain.all(connection):
        text = domain.note()
        note = Note.from_xml(text) if text else None
        if note and NAME.fullmatch(note.host):
            found.append(Claimed(note.host, domain.name, connection.uri, note.host_key, note.disk))
    return found


def unclaimed(found: Iterable[Claimed], known: Collection[str]) -> list[tuple[str, str, str]]:
    """Return the domains of hosts whose files are gone, each as host, sentence and hint.

    A drill's VM has no host file while the drill runs.
    """
    from swarm.vm import throwaway

    return [
        (
            each.host,
            f"the domain {each.domain!r} was made for {each.host}, which has no host file",
            f"write hosts/{each.host}.yaml again, and run ./inv destroy --host {each.host} if the VM is to go",
        )
        for each in found
        if each.host not in known and not throwaway.folder(each.host).exists()
    ]


def earlier(hosts: Iterable[Host], now: float | None = None) -> list[str]:
    """Return the hypervisors on which hosts were provisioned lately, and that no host file names now."""
    hosts = list(hosts)
    since = (time.time() if now is None else now) - _DAYS * 86400
    named = {place(host.hypervisor.uri) for host in hosts}
    found = [
        str(entry["hypervisor"])
        for host in hosts
        for entry in history.entries(host.name, "provision")
        if entry.get("hypervisor") and entry["at"] >= since
    ]
    return [uri for uri in dict.fromkeys(found) if check(uri) is None and place(uri) not in named]


def left_behind(hosts: Iterable[Host], found: Mapping[str, Sequence[Claimed]]) -> list[tuple[str, str, str]]:
    """Return the domains whose hosts have another hypervisor by now, each as host, sentence and hint. Pure.

    `found` holds the domains of each URI that answered. Two names of one machine lead to the same domain, which has the
    same host key: that is not left behind.
    """
    wanted = {host.name: host.hypervisor.uri for host in hosts}
    return [
        _left(each, uri, wanted[each.host])
        for uri, domains in found.items()
        for each in domains
        if each.host in wanted
        and place(uri) != place(wanted[each.host])
        and not _same(each, uri, wanted[each.host], found)
    ]


def _same(domain: Claimed, uri: str, wanted: str, found: Mapping[str, Sequence[Claimed]]) -> bool:
    """Return whether the domain is perhaps the one that the host's present URI leads to."""
    there = next((domains for each, domains in found.items() if place(each) == place(wanted)), None)
    if there is None:  # no answer: only two local hypervisors are certainly different ones
        return remote(uri) and remote(wanted)
    return any((each.host, each.key) == (domain.host, domain.key) for each in there)


def _left(domain: Claimed, uri: str, wanted: str) -> tuple[str, str, str]:
    virsh = ("virsh", "-c", domain.uri)
    undefine = quote(*virsh, "undefine", "--nvram", "--tpm", domain.domain)
    disk = f"; its disk {domain.disk} stays" if domain.disk else ""
    message = f"{uri} has the domain {domain.domain!r} of {domain.host}, whose hypervisor.uri is now {wanted}"
    hint = (
        f"if that VM is to go: {quote(*virsh, 'destroy', domain.domain)}; {undefine}{disk}. "
        f"With the old uri in hosts/{domain.host}.yaml, ./inv destroy --host {domain.host} removes all of it"
    )
    return domain.host, message, hint
