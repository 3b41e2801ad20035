"""An unchanged backup, as typed, against rsync's own scan of the same tree. Both make a new connection."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from swarm import ssh
from swarm.files import private_dir
from swarm.paths import ROOT
from tools.lab import World, missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["measure", "possible"]

_TIMES = 7
_STATE = "home/openclaw/.openclaw"
_HOST = """hypervisor: {{uri: "qemu:///system"}}
vm:
  domain: bench
  hostname: bench
  image: ubuntu-24.04
  memory_mib: 1024
  vcpus: 1
  disk_path: /var/lib/libvirt/images/bench.qcow2
  disk_size: 20G
  mac: 52:54:00:77:00:01
  ip: {ip}
"""


def possible() -> bool:
    """Return whether this computer can run a systemd machine as the guest."""
    return not missing()


def measure(folder: Path) -> dict[str, list[float]]:
    """Return the seconds of each run of both, in turn. `folder` holds the tree in `state`."""
    with World() as world:
        machine = world.machine()
        machine.ssh("useradd -m openclaw; hostname bench")
        shutil.move(folder / "state", machine.root / _STATE)
        machine.ssh(f"chown -R openclaw: /{_STATE}")
        places = {name: folder / "unchanged" / name for name in ("hosts", "state", "mirrors", "backups")}
        for path in places.values():
            path.mkdir(parents=True)
        environment = {**os.environ, **{f"SWARM_{name.upper()}": str(path) for name, path in places.items()}}
        keys = private_dir(private_dir(places["state"]) / "ssh")
        for source, target in ((world.key, "id_ed25519"), (world.key.with_suffix(".pub"), "id_ed25519.pub")):
            shutil.copy(source, keys / target)
        (places["hosts"] / "bench.yaml").write_text(_HOST.format(ip=machine.ip))
        ssh.pin(places["hosts"] / "bench.known_hosts", ["bench"], machine.public_key)

        def timed(*words: str | Path) -> float:
            start = time.monotonic()
            subprocess.run(world.inside(*words), env=environment, cwd=ROOT, check=True, capture_output=True)
            return time.monotonic() - start

        ours: Sequence[str] = (
            sys.executable,
            "-P",
            str(ROOT / "swarm" / "__main__.py"),
            "backup",
            "--host",
            "bench",
        )
        timed(*ours)
        config = keys / "hosts" / "bench.conf"
        scan = ["rsync", "-anHS", "--delete", "--modify-window=-1", "-e", f"ssh -F {config}"]
        excluded = ("workspace", "logs", "cache", "tmp", "extensions-quarantine")
        scan += [f"--exclude=/{name}/" for name in excluded]
        scan += [f"bench:/{_STATE}/", str(places["mirrors"] / "bench") + "/"]
        timed(*scan)
        found: dict[str, list[float]] = {"rsync scan, s": [], "ours, unchanged, s": []}
        for _ in range(_TIMES):
            found["rsync scan, s"].append(timed(*scan))
            ssh.Guest(config, "bench").close()  # a nightly run finds no connection either
            found["ours, unchanged, s"].append(timed(*ours))
        return found
