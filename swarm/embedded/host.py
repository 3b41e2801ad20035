"""The inside of the embedded hypervisor. It runs as root and uses the standard library only.

`host.py start STATE UID GID` (what the client calls, through sudo where it must) makes new mount and process
namespaces, starts `host.py init …` as their first process and waits until it is ready. `init` makes the
network namespace and gives it a way out, `init` mounts STATE/{etc,lib,run,log,cache} over libvirt's own
folders, so that nothing of the machine's is read or written, and becomes `serve`, which runs libvirtd and the
broker, and reaps. When it ends, the kernel ends everything in the namespaces.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from swarm.embedded import broker, kvm, mounts, pulse
else:  # this file runs on its own, and its folder is all that it can import from
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import broker
    import kvm
    import mounts
    import pulse

READY_WITHIN = 30.0  # seconds; 0.3 on a quiet machine

# Link-local addresses: ours, the gateway, and where pasta answers for the machine's resolver. The machine's own
# address is not copied inside, since it may be one of 192.168.122.x when the machine is a VM itself.
INSIDE, OUTSIDE, RESOLVER = "169.254.53.2", "169.254.53.1", "169.254.53.53"

UPLINK = "uplink"  # pasta's network card on the inside
# Not below STATE: pasta drops its privileges and cannot enter a user's private directories.
NETWORK, MACHINE, PASTA = (
    Path(mounts.FOLDERS["run"], name) for name in ("netns", "netns-machine", "pasta.pid")
)
NO_WAY_OUT = "no-way-out"  # the file in STATE that says why guests reach nothing but this machine, if so


def init(state: Path, uid: int, gid: int) -> int:
    """Set up the namespaces as their first process, then continue as `serve` in a network namespace."""
    for left in (state / "run").glob("*"):
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    mounts.run("mount", "-t", "proc", "proc", "/proc")
    has_kvm = kvm.usable_kvm()
    mounts.mount_private(state)
    if not has_kvm:
        mounts.hide_kvm(state)
    for network in (NETWORK, MACHINE):
        network.touch()
    mounts.run("mount", "--bind", "/proc/self/ns/net", str(MACHINE))
    mounts.run("unshare", f"--net={NETWORK}", "true")
    # A resolver on the machine's own loopback is out of pasta's reach; systemd-resolved keeps the real ones
    # in a file.
    real, used = Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")
    local = "nameserver 127." in used.read_text(encoding="utf-8")
    shutil.copy(real if local and real.exists() else used, state / "resolv.machine")
    (state / "resolv.guests").write_text(f"nameserver {RESOLVER}\n", encoding="utf-8")
    mounts.run("mount", "--bind", str(state / "resolv.guests"), os.path.realpath(used))
    nsenter = shutil.which("nsenter") or "/usr/bin/nsenter"
    argv = [
        nsenter,
        f"--net={NETWORK}",
        sys.executable,
        "-I",
        __file__,
        "serve",
        str(state),
        str(uid),
        str(gid),
    ]
    os.execv(nsenter, argv)  # noqa: S606 - no shell is what is wanted: each argument stays what it is


def _way_out(state: Path) -> int | None:
    """Let guests reach what this machine reaches, without changing its network: pasta translates in user space.

    No port is forwarded in either direction, and the machine's own loopback is not mapped. Return pasta's
    process, or None if there is no way out; STATE/no-way-out then says why.
    """
    pasta = shutil.which("pasta")
    if pasta is None:
        (state / NO_WAY_OUT).write_text("pasta is missing (package passt)\n", encoding="utf-8")
        return None
    # pasta reads the machine's resolv.conf, over which ours is mounted here.
    # As "nobody" it could not enter a network namespace that root made; it drops every other right by itself.
    there = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        there,
        "sh",
        str(state / "resolv.machine"),
    ]
    argv += [os.path.realpath("/etc/resolv.conf"), "nsenter", f"--net={MACHINE}"]
    argv += [
        pasta,
        "--quiet",
        "--ipv4-only",
        "--runas",
        "0",
        "--config-net",
        "--ns-ifname",
        UPLINK,
        "--netns",
        str(NETWORK),
        "--pid",
        str(PASTA),
        "--address",
        INSIDE,
        "--netmask",
        "24",
        "--gateway",
        OUTSIDE,
    ]
    argv += ["--no-map-gw", "--dns-forward", RESOLVER]
    argv += ["--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"]
    with (state / "pasta.log").open("wb") as log:
        failed = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        ).returncode
    if failed:
        (state / NO_WAY_OUT).write_bytes((state / "pasta.log").read_bytes() or b"pasta gave no reason\n")
        return None
    (state / NO_WAY_OUT).unlink(missing_ok=True)
    return int(PASTA.read_text(encoding="ascii"))


def serve(state: Path, uid: int, gid: int) -> int:
    """Run libvirtd, pasta and the broker for `uid`, `gid`, and reap until stopped. Return 1 if libvirtd ends."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    mounts.mount_sysfs(state)
    mounts.run("ip", "link", "set", "lo", "up")
    way_out = [_way_out(state)]
    Thread(target=_end_the_silent, args=(way_out,), daemon=True).start()
    # Some pasta (Debian 12's) answers data with a segment without any flag. Connection tracking cannot match
    # it to a guest, so it would be delivered here, and our own stack would reset the guest's connection.
    mounts.run(
        "iptables", "-A", "INPUT", "-i", UPLINK, "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"
    )
    daemon = subprocess.Popen(
        [shutil.which("libvirtd") or "/usr/sbin/libvirtd", "-p", "/run/libvirt/libvirtd.pid"],
        stdin=subprocess.DEVNULL,
    )
    listening = Path("/run/libvirt/libvirt-sock")
    while not listening.exists():
        if daemon.poll() is not None:
            return 1
        time.sleep(0.02)
    os.chown(listening, uid, gid)
    broker.serve("/run/libvirt/broker.sock", (uid, gid), lambda: os._exit(0))
    while True:
        ended, _ = os.wait()
        if ended == daemon.pid:
            return 1
        if ended == way_out[0]:
            # Guests must not stay cut off because pasta died. Wait before restarting it, since it may die again.
            time.sleep(1)
            way_out[0] = _way_out(state)


def _end_the_silent(way_out: list[int | None]) -> None:
    """End pasta, the process in `way_out`, whenever it stops answering. serve() then starts another."""
    while True:
        pulse.wait_for_silence(UPLINK, OUTSIDE)
        if way_out[0]:
            sys.stderr.write("pasta does not answer any more, so it is ended and started again\n")
            sys.stderr.flush()
            with contextlib.suppress(ProcessLookupError):
                os.kill(way_out[0], signal.SIGKILL)


def start(state: Path, uid: int, gid: int) -> int:
    """Start everything. Return 0 once the broker answers, or 1 with the reason on standard error.

    "started" on standard output tells that it did not run before.
    """
    state.mkdir(parents=True, exist_ok=True)
    (state / "run").mkdir(exist_ok=True)
    address = state / "run/broker.sock"
    limit = time.monotonic() + READY_WITHIN
    with (state / "start.lock").open("w") as lock, (state / "alive.lock").open("w") as alive:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # unshare holds this lock until everything in the namespaces has ended. stop() and a new start wait for it.
        # Its holder may also be about to answer, if a command that was killed has started it.
        while True:
            with contextlib.suppress(broker.Closed):
                broker.ask(address, {"ping": True})
                return 0
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > limit:
                sys.stderr.write("an older one neither answers nor ends\n")
                return 1
            time.sleep(0.02)
        return _launch(state, uid, gid, alive.fileno(), limit)


def _launch(state: Path, uid: int, gid: int, alive: int, limit: float) -> int:
    with (state / "host.log").open("wb") as log:
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        argv += [sys.executable, "-I", __file__, "init", str(state), str(uid), str(gid)]
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[alive]
        )
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(broker.Closed):
            broker.ask(state / "run/broker.sock", {"ping": True})
            sys.stdout.write("started\n")
            return 0
        time.sleep(0.02)
    process.kill()
    words = (state / "host.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    sys.stderr.write("\n".join(words[-5:] or ["it did not answer within 30 seconds"]) + "\n")
    return 1


def main() -> int:
    """Run the verb of the command line and return its exit code."""
    verb, state, uid, gid = sys.argv[1:]
    verbs = {"start": start, "init": init, "serve": serve}
    return verbs[verb](Path(state), int(uid), int(gid)) or 0


if __name__ == "__main__":
    sys.exit(main())
