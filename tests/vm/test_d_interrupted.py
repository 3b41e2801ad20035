"""Runs that are killed, and the same command again: it always converges, and nothing is ever half-made."""

from __future__ import annotations

import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from swarm.hypervisor.storage import find_pool
from swarm.vm.desired import base_volume_size
from tests.vm.conftest import make_lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vm.lab import Lab

# Seconds after which runs are killed, one after the other: in the middle of start-up, upload, disk, seed, definition, start.
# Where exactly each one dies differs from machine to machine; that it does not matter is what is tested.
MOMENTS = (0.3, 0.7, 1.0, 1.5, 2.0, 0.5, 0.8, 1.1, 1.4, 3.0)


@pytest.fixture(scope="module")
def fresh(base: Path, zap: Lab) -> Iterator[Lab]:
    """A laboratory with nothing made yet. The image is in the cache by now, thanks to `zap`, which sleeps."""
    zap.inv("stop", "--host", "zap", "--force")
    lab = make_lab(base, "fresh")
    lab.zap()
    yield lab
    lab.close()
    shutil.rmtree(lab.base)


def test_killed_runs_leave_nothing_that_passes_for_whole(fresh: Lab) -> None:
    """However often a run is killed with -9, the next one starts from what is whole: a cut upload is never taken for an image."""
    for moment in MOMENTS:
        process = fresh.start("provision", "--host", "zap")
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        plan = fresh.inv("plan", "--host", "zap", "--json")
        assert plan.code in {0, 2}, plan.err
        planned = {change["subject"] for change in plan.data[0]["changes"]}
        with fresh.hypervisor() as connection:
            if pool := find_pool(connection, fresh.host().vm.disk_path.parent):
                pool.refresh()
                bases = [volume for volume in pool.volumes() if base_volume_size(volume.name)]
                whole = [volume for volume in bases if volume.physical == base_volume_size(volume.name)]
                assert whole or "base volume" in planned or "domain" not in planned


def test_deadline_names_the_rung_and_the_next_run_goes_on(fresh: Lab) -> None:
    """A run whose time is up names the rung; Ctrl-C says how to go on; the same command then completes the same VM."""
    late = fresh.inv("provision", "--host", "zap", "--timeout", "5")
    assert late.code == 1
    assert "'SSH port open' was not reached within 5 s" in late.err
    waiting = fresh.start("provision", "--host", "zap")
    time.sleep(4)
    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate()
    assert waiting.returncode == 130
    assert "Traceback" not in err
    done = fresh.inv("provision", "--host", "zap")
    assert done.code == 0, done.err
    assert "✓ share mounted" in done.err


def test_after_all_that_the_machine_is_like_any_other(fresh: Lab) -> None:
    """In the end there is one base image, one disk, one console log, one NVRAM, one TPM state, one reservation, and nothing to do."""
    assert "nothing to do" in fresh.inv("provision", "--host", "zap").err
    kinds = sorted(
        name.split("/")[0] + "/" + name.rpartition(".")[2] for name in fresh.files() if "save" not in name
    )
    assert [kind.split("/")[0] for kind in kinds] == ["images", "images", "images", "qemu", "swtpm"]
    with fresh.hypervisor() as connection:
        assert connection.raw.networkLookupByName("default").XMLDesc().count("<host mac=") == 1
    assert fresh.ssh("zap", "cat /proc/sys/kernel/hostname") == "zap\n"
