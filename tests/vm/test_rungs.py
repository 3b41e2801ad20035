"""A guest that does not become ready: the error names the rung and shows the console. On one restored copy."""

from __future__ import annotations

import base64
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.vm.lab import Lab, Ran

KEY = "/etc/ssh/ssh_host_ed25519_key"


def in_guest(lab: Lab, command: str) -> str:
    """Run a shell command in the guest through its agent, since SSH is what these tests take away."""
    with lab.hypervisor() as connection:
        domain = lab.domain(connection)
        pid = domain.agent("guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})[
            "pid"
        ]
        while not (state := domain.agent("guest-exec-status", pid=pid))["exited"]:
            time.sleep(0.2)
    assert state["exitcode"] == 0, state
    return base64.b64decode(state.get("out-data", "")).decode()


def start_paused(lab: Lab, limit: int) -> Ran:
    """Pause the VM and resume it with `./inv start`, the quick way through the ladder."""
    with lab.hypervisor() as connection:
        lab.domain(connection).raw.suspend()  # only tests pause
    return lab.inv("start", "--host", "zap", "--timeout", str(limit))


@contextmanager
def broken(lab: Lab, damage: str, repair: str) -> Iterator[None]:
    """Break something in the guest for the block."""
    in_guest(lab, damage)
    try:
        yield
    finally:
        in_guest(lab, repair)


def another_host_key(lab: Lab) -> AbstractContextManager[None]:
    """Give the guest another host key for the block."""
    restart = "systemctl restart ssh.service"
    swap = f"mv {KEY} /root/key; ssh-keygen -q -t ed25519 -N '' -f {KEY}; {restart}"
    return broken(lab, swap, f"mv /root/key {KEY}; ssh-keygen -y -f {KEY} > {KEY}.pub; {restart}")


def test_a_resumed_vm_passes_the_whole_ladder(spare: Lab) -> None:
    """A paused VM goes on with `start`, which waits until the guest is ready."""
    ran = start_paused(spare, 120)
    assert ran.code == 0, ran.err
    assert "✓ share mounted" in ran.err


def test_closed_port_is_named_with_the_console(spare: Lab) -> None:
    """Without an SSH server the rung 'SSH port open' times out, with the console's last lines and a hint."""
    with broken(
        spare,
        "systemctl stop ssh.socket ssh.service; echo last words > /dev/ttyS0",
        "systemctl start ssh.service",
    ):
        ran = start_paused(spare, 8)
    assert ran.code == 1
    assert "error: zap: 'SSH port open' was not reached within 8 s" in ran.err
    assert "last words" in ran.err
    assert "hint:" in ran.err


def test_another_host_key_is_refused_at_once(spare: Lab) -> None:
    """start, ssh and status all refuse a guest whose host key does not match the pinned one."""
    with another_host_key(spare):
        started = start_paused(spare, 60)
        logged_in = spare.inv("ssh", "--host", "zap", "--", "true")
        status = spare.inv("status", "--host", "zap", "--json")
    assert started.code == 1
    assert re.search(r"error: .*zap.*: the host key does not match the pinned key", started.err)
    assert logged_in.code == 255
    assert "Host key verification failed" in logged_in.err
    assert status.data[0]["ssh"] == "other host key"


def test_a_new_host_key_is_pinned_on_request(spare: Lab) -> None:
    """`pin` reads a changed host key from the guest agent and, after a yes, every command trusts it."""
    with another_host_key(spare):
        unanswered = spare.inv("pin", "--host", "zap")
        assert (unanswered.code, "nothing was pinned" in unanswered.err) == (1, True)
        pinned = spare.inv("pin", "--host", "zap", "--yes")
        assert pinned.code == 0, pinned.err
        assert (
            spare.ssh("zap", f"ssh-keygen -lf {KEY}").split()[1] in pinned.err
        )  # the fingerprint that it showed
        assert "nothing to do" in spare.inv("pin", "--host", "zap").err
        assert "nothing to do" in spare.inv("provision", "--host", "zap").err
    assert spare.inv("pin", "--host", "zap", "--yes").code == 0


def test_refused_login_is_named(spare: Lab) -> None:
    """Without our key in the guest the rung 'login' fails and says what to do."""
    with broken(spare, "mv /root/.ssh /root/.hidden", "mv /root/.hidden /root/.ssh"):
        ran = start_paused(spare, 12)
    assert ran.code == 1
    assert "'login' was not reached within 12 s" in ran.err


def test_cloud_init_may_be_gone_after_the_first_boot(spare: Lab) -> None:
    """Once the seed is gone, a start asks neither whether cloud-init has finished nor for an error of the past."""
    result = '{"v1": {"datasource": "x", "errors": ["the disk ate my homework"]}}'
    spoil = f"cp /run/cloud-init/result.json /run/result; echo '{result}' > /run/cloud-init/result.json"
    with broken(spare, spoil, "mv /run/result /run/cloud-init/result.json"):
        ran = start_paused(spare, 60)
    assert ran.code == 0, ran.err
    assert "cloud-init" not in ran.err


def test_missing_share_is_named(spare: Lab) -> None:
    """A share that is not mounted fails the last rung."""
    with broken(spare, "umount /mnt/swarm", "mount /mnt/swarm"):
        ran = start_paused(spare, 15)
    assert "'share mounted' was not reached within 15 s" in ran.err


def test_vm_that_dies_ends_the_wait(spare: Lab) -> None:
    """When the VM stops while it is waited for, the wait ends at once and says so."""
    in_guest(spare, "systemctl stop ssh.socket ssh.service")
    with spare.hypervisor() as connection:
        domain = spare.domain(connection)
        domain.raw.suspend()  # only tests pause
        waiting = spare.start("start", "--host", "zap", "--timeout", "300")
        assert waiting.stderr
        assert any("domain running" in line for line in waiting.stderr)  # the first rung, as it is reached
        domain.power_off()
        _, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 1
    assert "gave up waiting for 'SSH port open': the VM is stopped" in err


def test_destroy_asks_and_then_leaves_nothing(spare: Lab) -> None:
    """`destroy` needs a yes. Then it removes all that was made for the VM and keeps the base image."""
    refused = spare.inv("destroy", "--host", "zap")
    assert refused.code == 1
    assert "was not destroyed" in refused.err
    assert spare.inv("destroy", "--host", "zap", "--yes").code == 0
    left = list(spare.files())
    assert len(left) == 1
    assert left[0].startswith("images/swarm-base-built-")
    assert not (spare.base / "hosts/zap.known_hosts").exists()
    assert "nothing to do" in spare.inv("destroy", "--host", "zap", "--yes").err
    with spare.hypervisor() as connection:
        assert connection.raw.listAllDomains() == []
        assert "52:54:00:01:00:71" not in connection.raw.networkLookupByName("default").XMLDesc()


def test_an_unused_base_image_is_pruned(spare: Lab) -> None:
    """`./inv images --prune` removes the base image from the pool once no disk hangs on it."""
    spare.cache = spare.base / "cache"  # the tests' own one is the person's
    spare.cache.mkdir()
    pruned = spare.inv("images", "--prune", "--yes", "--json")
    assert [item["where"].split()[0] for item in pruned.data["removed"]] == ["embedded"]
    assert list(spare.files()) == []
