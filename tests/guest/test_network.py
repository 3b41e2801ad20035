"""What the guest can reach. The filter is the hypervisor's; whether it is in force shows here."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from swarm.inventory import target

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest

# A filter drops packets. Without one, a port where nothing listens is refused at once, and one where something does
# answers. coreutils' timeout exits with 124.
_PROBE = "timeout 3 bash -c 'exec 3<>/dev/tcp/{}/{}' 2>/dev/null; echo $?"
_PORT = 9  # discard: nothing listens there, and host files have no reason to allow it
_DROPPED = "124"


def _gateway(guest: Guest) -> str:
    fields = guest.out("ip -4 route show default").split()
    if "via" not in fields:
        pytest.skip("there is no default route")
    return str(IPv4Address(fields[fields.index("via") + 1]))


def _dropped(guest: Guest, expected: Expected, address: str, port: int) -> None:
    """Fail unless a connection to the address gets no answer. Skip if the host file allows it."""
    for allowed in map(target, expected.allow):
        if IPv4Address(address) in allowed.network and allowed.port in {None, port}:
            pytest.skip("the host file allows it")
    assert guest.out(_PROBE.format(address, port)) == _DROPPED


def test_hypervisor_is_closed(guest: Guest, expected: Expected) -> None:
    """The hypervisor's own services are out of reach, but for DNS."""
    _dropped(guest, expected, _gateway(guest), _PORT)


def test_link_local_is_closed(guest: Guest, expected: Expected) -> None:
    """Link-local addresses, such as a cloud's metadata, are out of reach."""
    _dropped(guest, expected, "169.254.169.254", 80)
