"""`vm.network:` of a host file: what of the hypervisor's own network the guest may reach."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from swarm.inventory.fields import as_text, wrong
from swarm.inventory.inside import Section

__all__ = ["ANY", "Egress", "Target", "target"]

ANY = "any"
_TARGET = re.compile(r"([0-9.]{7,15}(?:/[0-9]{1,2})?)(?::([0-9]{1,5}))?")
_PORTS = range(1, 65536)


class Target(NamedTuple):
    """Addresses that the guest may reach, and the one TCP or UDP port there, or None for all."""

    network: ipaddress.IPv4Network
    port: int | None = None

    def __str__(self) -> str:
        """Return it as a host file states it."""
        address = (
            str(self.network.network_address)
            if self.network.prefixlen == self.network.max_prefixlen
            else str(self.network)
        )
        return f"{address}:{self.port}" if self.port else address


def target(text: str) -> Target:
    """Return the target of an entry other than "any". Raise ValueError."""
    match = _TARGET.fullmatch(text)
    if not match or (match[2] and int(match[2]) not in _PORTS):
        raise ValueError(text)
    return Target(ipaddress.IPv4Network(match[1]), int(match[2]) if match[2] else None)


def _allowed(value: str) -> str:
    if value == ANY:
        return value
    try:
        return str(target(value))
    except ValueError:
        problem = "expected an IPv4 address or network, with a port if only that is meant, or 'any'"
        raise wrong(problem, "use for example 192.168.122.1:18804, or 192.168.153.0/24") from None


class Egress(Section):
    """What the guest may reach besides the internet."""

    allow: tuple[Annotated[str, AfterValidator(_allowed), as_text(rf"(any|{_TARGET.pattern})")], ...] = Field(
        default=(),
        description="Addresses of the hypervisor and private ones that the guest may reach: ADDRESS[/PREFIX][:PORT]. "
        "Without an entry, it reaches the internet only; with 'any', nothing is filtered.",
        examples=[["192.168.122.1:18804", "192.168.153.0/24"]],
    )
