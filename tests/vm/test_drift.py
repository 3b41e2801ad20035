"""A changed host file, and a VM that was changed by hand. In order, on one restored copy of zap."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.vm.lab import Lab


def test_restored_copy_is_what_it_was(spare: Lab) -> None:
    """A saved and restored VM has nothing to do either: nothing that a start changes counts as drift."""
    assert spare.inv("plan", "--only", "vm", "--host", "zap", "--json").data[0]["changes"] == []


def test_memory_change_is_an_update_for_the_next_start(spare: Lab) -> None:
    """A changed memory_mib is shown as an update that waits, is stored, and leaves the running VM alone."""
    spare.edit("zap", memory_mib=2560)
    plan = spare.inv("plan", "--only", "vm", "--host", "zap")
    assert plan.code == 2
    assert "~ memory: 3072 MiB → 2560 MiB (takes effect at the next start; --restart does it now)" in plan.err
    assert spare.inv("provision", "--host", "zap").code == 0
    again = spare.inv("provision", "--host", "zap")
    assert "memory: waits for the VM's next start" in again.err
    assert "nothing to do" in again.err
    with spare.hypervisor() as connection:
        domain = spare.domain(connection)
        assert "<memory unit='KiB'>2621440</memory>" in domain.xml()
        assert "<memory unit='KiB'>3145728</memory>" in domain.xml(live=True)


def test_edit_from_outside_is_drift_and_put_back(spare: Lab) -> None:
    """What is changed with virsh is shown as changed outside swarm, and undone."""
    with spare.hypervisor() as connection:
        domain = spare.domain(connection)
        domain.raw.setVcpusFlags(2, 2 | 4)  # `virsh setvcpus 2 --config --maximum`
        plan = spare.inv("plan", "--only", "vm", "--host", "zap")
        assert plan.code == 2
        assert "~ vCPUs: 2 → 1 (changed outside swarm; put back)" in plan.err
        assert spare.inv("provision", "--host", "zap").code == 0
        assert ">1</vcpu>" in domain.xml()
    assert spare.inv("plan", "--only", "vm", "--host", "zap").code == 0


def _reaches(lab: Lab, port: int) -> bool:
    """Return whether packets from the guest reach a port of the hypervisor. Nothing listens there, so it refuses."""
    answer = lab.ssh("zap", f"timeout 3 bash -c 'exec 3<>/dev/tcp/192.168.122.1/{port}' 2>/dev/null; echo $?")
    assert answer.strip() in {"1", "124"}
    return answer.strip() == "1"


def test_an_allowed_address_can_be_reached_at_once(spare: Lab) -> None:
    """What vm.network.allow names opens in the running guest, nothing else does, and it closes again."""
    assert not _reaches(spare, 18804)
    spare.edit("zap", network={"allow": ["192.168.122.1:18804"]})
    plan = spare.inv("provision", "--host", "zap")
    assert plan.code == 0
    assert "no private address but 192.168.122.1:18804" in plan.err
    assert _reaches(spare, 18804)
    assert not _reaches(spare, 18805)
    spare.edit("zap", network={"allow": []})
    assert spare.inv("provision", "--host", "zap").code == 0
    assert not _reaches(spare, 18804)


def test_a_filter_from_outside_is_put_back(spare: Lab) -> None:
    """Rules that were changed with virsh are shown, and swarm's own are in force again after a run."""
    with spare.hypervisor() as connection:
        raw = connection.raw.nwfilterLookupByName("swarm-zap")
        identity = f"<filter name='swarm-zap'><uuid>{raw.UUIDString()}</uuid>"
        rule = "<rule action='accept' direction='inout'><all/></rule>"
        connection.raw.nwfilterDefineXML(f"{identity}{rule}</filter>")
        assert _reaches(spare, 18804)
        plan = spare.inv("plan", "--only", "vm", "--host", "zap")
        assert plan.code == 2
        assert "~ network filter: other rules →" in plan.err
        assert spare.inv("provision", "--host", "zap").code == 0
        assert not _reaches(spare, 18804)


def test_disk_grows_while_the_guest_runs_and_never_shrinks(spare: Lab) -> None:
    """A larger disk_size reaches the running guest at once; a smaller one is refused with the line of the host file."""
    spare.edit("zap", disk_size="61G")
    assert spare.inv("provision", "--host", "zap").code == 0
    assert spare.ssh("zap", "lsblk --noheadings --nodeps --output SIZE /dev/vda").strip() == "61G"
    spare.edit("zap", disk_size="40G")
    refused = spare.inv("provision", "--host", "zap")
    assert refused.code == 1
    assert re.search(r"zap\.yaml:\d+: vm\.disk_size: the disk cannot shrink from 61G", refused.err)
    spare.edit("zap", disk_size="61G")


def test_lost_pin_is_pinned_again(spare: Lab) -> None:
    """If the pinned key's file is gone, the plan says so and pins the key that the VM was made with."""
    path = spare.base / "hosts/zap.known_hosts"
    pinned = path.read_text()
    path.unlink()
    assert "host key" in spare.inv("plan", "--only", "vm", "--host", "zap").err
    assert spare.inv("provision", "--host", "zap").code == 0
    assert path.read_text() == pinned


def test_restart_brings_waiting_changes_into_force(spare: Lab) -> None:
    """`--restart` powers the guest off in order, starts it, waits until it is ready, and the new memory is there."""
    ran = spare.inv("provision", "--host", "zap", "--restart")
    assert ran.code == 0, ran.err
    assert 2300 < int(spare.ssh("zap", "awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo")) <= 2560
    assert "61G" in spare.ssh("zap", "lsblk --noheadings --nodeps --output SIZE /dev/vda")
    assert int(spare.ssh("zap", "df --output=size --block-size=1G / | tail -1")) >= 59
    assert spare.inv("provision", "--host", "zap", "--restart").err.strip().endswith("nothing to do")


def test_stop_powers_off_once(spare: Lab) -> None:
    """`stop` powers the guest off; a second one has nothing to do."""
    assert "zap is stopped" in spare.inv("stop", "--host", "zap").err
    assert "nothing to do" in spare.inv("stop", "--host", "zap").err
    assert spare.inv("status", "--host", "zap", "--json").data[0]["vm"] == "stopped"
