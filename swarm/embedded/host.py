"""The processes that run the embedded hypervisor as root. Standard library only.

The client runs `host.py start STATE UID GID`, with sudo if necessary. It creates new mount and PID namespaces, starts
`host.py init …` as their first process, and waits until the broker responds. `init` mounts
STATE/{etc,lib,run,log,cache} over libvirt's own directories, so that the machine's own are neither read nor written.
It creates the network namespace and becomes `serve`. `serve` runs pasta, libvirtd and the broker, and reaps child
processes. When it ends, the kernel ends every process in the namespaces.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from swarm.embedded import broker, kvm, mounts, pulse, shares
else:  # run as a program with -I: only this file's directory is importable
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import broker
    import kvm
    import mounts
    import pulse
    import shares

FULL = "no space is left"  # how the cause begins if a file system is full
_ROOM = 1 << 20  # bytes; its configuration and logs take some kilobytes
READY_WITHIN = 30.0  # seconds; an idle machine takes 0.3

# Link-local addresses: the namespace's own, the gateway's, and the one at which pasta forwards DNS. pasta would
# otherwise copy the machine's address, which may be in 192.168.122.0/24 if the machine is itself a VM.
INSIDE, OUTSIDE, RESOLVER = "169.254.53.2", "169.254.53.1", "169.254.53.53"

UPLINK = "uplink"  # pasta's network interface in the namespace
# Not below STATE: pasta drops its privileges and cannot enter a user's private directories.
NETWORK, MACHINE, PASTA = (
    Path(mounts.FOLDERS["run"], name) for name in ("netns", "netns-machine", "pasta.pid")
)
NO_WAY_OUT = "no-way-out"  # the file in STATE that says why guests cannot reach outside networks


def init(state: Path, uid: int, gid: int) -> int:
    """Set up the namespaces as their first process, then continue as `serve` in a network namespace."""
    for left in (state / "run").glob("*"):
        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    mounts.run("mount", "-t", "proc", "proc", "/proc")
    has_kvm = kvm.usable_kvm()
    mounts.mount_private(state)
    shares.cover(state, uid, gid)
    if not has_kvm:
        mounts.hide_kvm(state)
    for network in (NETWORK, MACHINE):
        network.touch()
    mounts.run("mount", "--bind", "/proc/self/ns/net", str(MACHINE))
    mounts.run("unshare", f"--net={NETWORK}", "true")
    # pasta cannot reach a resolver on the machine's loopback interface. systemd-resolved lists the upstream
    # resolvers in a file.
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
    os.execv(nsenter, argv)  # noqa: S606 - without a shell on purpose: no argument is interpreted


def _way_out(state: Path) -> int | None:
    """Start pasta, which gives guests outside access by user-space NAT and leaves this machine's network unchanged.

    No port is forwarded in either direction, and the machine's loopback interface is not mapped. Return pasta's
    process ID. If it does not start, return None and write the cause to STATE/no-way-out.
    """
    pasta = shutil.which("pasta")
    if pasta is None:
        (state / NO_WAY_OUT).write_text("pasta is missing (package passt)\n", encoding="utf-8")
        return None
    # pasta must read the machine's resolv.conf, so mount that over the guests' one, for pasta alone.
    # It runs as root because its default user, nobody, cannot enter a network namespace that root created. It
    # drops all other privileges by itself.
    script = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
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
        (state / NO_WAY_OUT).write_bytes(
            (state / "pasta.log").read_bytes() or b"pasta failed without a message\n"
        )
        return None
    (state / NO_WAY_OUT).unlink(missing_ok=True)
    return int(PASTA.read_text(encoding="ascii"))


def serve(state: Path, uid: int, gid: int) -> int:
    """Run libvirtd, pasta and the broker for `uid`, `gid`, and reap child processes. Return 1 when libvirtd ends."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    mounts.mount_sysfs(state)
    mounts.run("ip", "link", "set", "lo", "up")
    way_out = [_way_out(state)]
    Thread(target=_end_unresponsive, args=(way_out,), daemon=True).start()
    # Debian 12's pasta may answer data with a TCP segment that has no flags. Connection tracking cannot match it
    # to a guest, so the namespace's own TCP stack would receive it and reset the guest's connection.
    mounts.run(
        "iptables", "-A", "INPUT", "-i", UPLINK, "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"
    )
    logger = _logger()
    daemon = subprocess.Popen(
        [shutil.which("libvirtd") or "/usr/sbin/libvirtd", "-p", "/run/libvirt/libvirtd.pid"],
        stdin=subprocess.DEVNULL,
    )
    listening = Path("/run/libvirt/libvirt-sock")
    while not (accepts(listening) and (logger is None or accepts(Path("/run/libvirt/virtlogd-sock")))):
        if daemon.poll() is not None:
            return 1
        time.sleep(0.02)
    os.chown(listening, uid, gid)
    broker.serve("/run/libvirt/broker.sock", (uid, gid), lambda: os._exit(0))
    while True:
        ended, _ = os.wait()
        if ended == daemon.pid:
            return 1
        if logger and ended == logger.pid:
            logger = _logger()  # no VM could start without it
        if ended == way_out[0]:
            # Guests must not stay cut off because pasta died. Wait before restarting it, since it may die again.
            time.sleep(1)
            way_out[0] = _way_out(state)


def accepts(listening: Path) -> bool:
    """Return whether a daemon accepts connections at a socket. The socket's file exists a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(listening)) == 0


def _logger() -> subprocess.Popen[bytes] | None:
    """Start virtlogd, if the machine has it."""
    program = mounts.virtlogd()
    if program is None:
        return None
    return subprocess.Popen([program, "-p", "/run/libvirt/virtlogd.pid"], stdin=subprocess.DEVNULL)


def _end_unresponsive(way_out: list[int | None]) -> None:
    """Kill pasta, the process in `way_out`, whenever it stops responding. serve() then restarts it."""
    while True:
        pulse.wait_for_silence(UPLINK, OUTSIDE)
        if way_out[0]:
            sys.stderr.write("pasta does not respond: restarting it\n")
            sys.stderr.flush()
            with contextlib.suppress(ProcessLookupError):
                os.kill(way_out[0], signal.SIGKILL)


def start(state: Path, uid: int, gid: int) -> int:
    """Start everything. Return 0 once the broker responds, or 1 with the cause on standard error.

    Write "started" to standard output unless it was already running.
    """
    state.mkdir(parents=True, exist_ok=True)
    (state / "run").mkdir(exist_ok=True)
    address = state / "run/broker.sock"
    limit = time.monotonic() + READY_WITHIN
    # Not swarm.locks: this program runs with -I, which leaves only the standard library and the modules beside it.
    with (state / "start.lock").open("w") as lock, (state / "alive.lock").open("w") as alive:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # unshare holds alive.lock until every process in the namespaces has ended. stop() and a new start wait for
        # it. If an earlier start was killed, the hypervisor that it started may hold the lock and respond soon.
        while True:
            with contextlib.suppress(broker.Closed):
                broker.ask(address, {"ping": True})
                return 0
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > limit:
                sys.stderr.write("the previous instance neither responds nor ends\n")
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
    ended = process.poll()
    process.kill()
    messages = (state / "host.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if not messages:
        messages = [
            f"no response within {READY_WITHIN:g} s" if ended is None else f"it ended with exit code {ended}"
        ]
    sys.stderr.write("\n".join([*messages[-5:], *_full(state)]) + "\n")
    return 1


def _full(state: Path) -> list[str]:
    """Return, as a line, that the file system of `state` is full: then no program could write a cause to its log."""
    room = os.statvfs(state)
    if room.f_bavail * room.f_frsize < _ROOM:
        return [f"{FULL} in the file system of {state}"]
    if room.f_files and not room.f_favail:
        return [f"{FULL}: no free inodes in the file system of {state}"]
    return []


def main() -> int:
    """Run the command line's verb and return its exit code."""
    # sudo keeps a stricter one. The user must reach the sockets, and only root may write beside them.
    os.umask(0o022)
    verb, state, uid, gid = sys.argv[1:]
    verbs = {"start": start, "init": init, "serve": serve}
    return verbs[verb](Path(state), int(uid), int(gid)) or 0


if __name__ == "__main__":
    sys.exit(main())
