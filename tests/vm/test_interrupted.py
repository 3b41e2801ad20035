"""Runs that are killed, and the same command again: it always converges, and nothing half-made is ever used."""

from __future__ import annotations

import hashlib
import signal
import time
from typing import TYPE_CHECKING

from swarm.hypervisor.storage import find_pool
from swarm.vm.desired import base_volume_size

if TYPE_CHECKING:
    from tests.vm.lab import Lab

# Seconds after which runs are killed, one after the other: during start-up, upload, seed, definition, disk and start.
# Where exactly each run is killed differs from machine to machine, and must not matter.
MOMENTS = (0.3, 0.7, 1.0, 1.5, 2.0, 0.5, 0.8, 1.1, 1.4, 3.0)
FIRMWARE = 120.0  # seconds, on a busy machine


def test_killed_runs_leave_nothing_that_passes_for_whole(fresh: Lab) -> None:
    """After each kill -9 the next run starts from what is complete. A truncated upload is never used as an image."""
    for moment in MOMENTS:
        process = fresh.start("provision", "--host", "zap")
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        plan = fresh.inv("plan", "--only", "vm", "--host", "zap", "--json")
        assert plan.code in {0, 2}, plan.err
        planned = {change["subject"] for change in plan.data[0]["changes"]}
        with fresh.hypervisor() as connection:
            if pool := find_pool(connection, fresh.host().vm.disk_path.parent):
                pool.refresh()
                bases = [volume for volume in pool.volumes() if base_volume_size(volume.name)]
                whole = [volume for volume in bases if volume.physical == base_volume_size(volume.name)]
                assert whole or "base volume" in planned or "domain" not in planned


def test_the_next_run_starts_the_vm(fresh: Lab) -> None:
    """A VM that runs were killed over has the whole image, and its firmware finds the boot loader on the disk."""
    late = fresh.inv("provision", "--host", "zap", "--timeout", "5")
    assert late.code == 1
    assert "'SSH port open' was not reached within 5 s" in late.err
    (base,) = (name for name in fresh.files() if base_volume_size(name.partition("/")[2]))
    with (fresh.lib / base).open("rb") as file:
        assert base.split("-")[-2] == hashlib.file_digest(file, "sha256").hexdigest()[:16]
    limit = time.monotonic() + FIRMWARE
    while "BdsDxe: starting Boot" not in fresh.inv("console", "--host", "zap").out:
        assert time.monotonic() < limit
        time.sleep(1)


def test_an_interrupted_vm_ends_like_any_other(fresh: Lab) -> None:
    """There is one base image, disk, seed, console log, NVRAM, TPM state and reservation. Only the boot is left."""
    plan = fresh.inv("plan", "--only", "vm", "--host", "zap", "--json").data[0]
    assert [change["subject"] for change in plan["changes"]] == ["first boot"]
    kinds = sorted(
        name.split("/")[0] + "/" + name.rpartition(".")[2] for name in fresh.files() if "save" not in name
    )
    assert [kind.split("/")[0] for kind in kinds] == ["images"] * 4 + ["qemu", "swtpm"]
    with fresh.hypervisor() as connection:
        assert connection.raw.networkLookupByName("default").XMLDesc().count("<host mac=") == 1


def test_destroy_removes_what_killed_runs_left(fresh: Lab) -> None:
    """A VM that runs were killed over leaves nothing but the base image when it is destroyed."""
    gone = fresh.inv("destroy", "--host", "zap", "--yes")
    assert gone.code == 0, gone.err
    (left,) = fresh.files()
    assert left.startswith("images/swarm-base-built-")
