"""Real machines for tests and for bench/: a Debian tree booted by systemd-nspawn, in network namespaces of its own.

    world netns ── bridge 10.77.0.1 ──┬── machine netns 10.77.0.10 (sshd, systemd, iptables: all its own)
      (where ssh starts from)         └── machine netns 10.77.0.11 …        └── pasta ── package registries

Needs root, systemd-container, mmdebstrap, iproute2, socat and (for machines that reach registries) passt.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from swarm.ssh.remote import Remote

if TYPE_CHECKING:
    from collections.abc import Iterable

CACHE = Path("/var/cache/swarm-tests")
PROGRAMS = ("systemd-nspawn", "mmdebstrap", "ip", "nsenter", "socat", "pasta", "ssh-keygen")
_RELEASE = "bookworm"
_EDITION = 4  # raise it when the tree below changes
_PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus-user-session",
    "iproute2",
    "libpam-systemd",
    "openssh-server",
    "procps",
    "python3",  # as on cloud images; ansible needs it
    "sudo",
    "systemd-sysv",
    "tzdata",
)


def run(*command: str | Path, check: bool = True) -> str:
    """Run a program and return what it prints; its words are in the error if it fails."""
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def missing() -> list[str]:
    """Return what this computer lacks for such machines."""
    return [name for name in PROGRAMS if not shutil.which(name)] + ([] if os.geteuid() == 0 else ["root"])


def base_tree(release: str = _RELEASE) -> Path:
    """Return the folder with the bare system of a Debian release, built on first use."""
    CACHE.mkdir(parents=True, exist_ok=True)
    tree = CACHE / f"{release}-{_EDITION}"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            _build(tree, release)
    return tree


def _build(tree: Path, release: str) -> None:
    fresh = Path(tempfile.mkdtemp(prefix="tree-", dir=CACHE))
    fresh.chmod(0o755)
    # With this computer's own package sources where they are of that release, else with those that mmdebstrap takes for it.
    own = platform.freedesktop_os_release().get("VERSION_CODENAME") == release
    sources = (
        (list(Path("/etc/apt/sources.list.d").glob("debian*.sources")) or [Path("/etc/apt/sources.list")])
        if own
        else []
    )
    skip = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    include = "--include=" + ",".join(_PACKAGES)
    run(
        "nice",
        "mmdebstrap",
        "--mode=root",
        "--variant=important",
        include,
        *skip,
        release,
        fresh / "root",
        *sources,
    )
    root = fresh / "root"
    for name in Path("/usr/local/share/ca-certificates").glob(
        "*.crt"
    ):  # a registry behind this computer's own authority
        shutil.copy(name, root / "usr/local/share/ca-certificates")
    for name in Path("/etc/apt/apt.conf.d").glob("*registry*"):
        shutil.copy(name, root / "etc/apt/apt.conf.d")
    run("chroot", root, "update-ca-certificates")
    run("chroot", root, "apt-get", "update")
    (root / "etc/hostname").write_text("guest\n")
    if "NODE_EXTRA_CA_CERTS" in os.environ:
        (root / "etc/environment").write_text("NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt\n")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    root.rename(tree)
    fresh.rmdir()


class World:
    """The network that machines share, and from which they are reached."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="swarm-nspawn-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        self.name = "w" + self.folder.name[-6:].lower().replace("_", "x")
        self.machines: list[Machine] = []
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", self.key)
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "-n", self.name, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.name, "addr", "add", "10.77.0.1/24", "dev", "br0")
        run("ip", "-n", self.name, "link", "set", "br0", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            machine.stop()
        run("ip", "netns", "del", self.name, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def key(self) -> Path:
        """The private key that every machine lets in."""
        return self.folder / "key"

    def machine(
        self, tree: Path | None = None, *, internet: bool = False, binds: tuple[str, ...] = ()
    ) -> Machine:
        """Boot one more machine from a copy of `tree` (default: the bare system) and return it when it answers.

        `binds` are files of this computer that it has too, such as a device.
        """
        machine = Machine(self, len(self.machines), tree or base_tree(), internet=internet, binds=binds)
        self.machines.append(machine)
        machine.boot()
        return machine

    def inside(self, *command: str | Path) -> list[str]:
        """Return the command that runs `command` in this network."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *(str(word) for word in command)]


class Machine:
    """One booted system."""

    def __init__(
        self, world: World, number: int, tree: Path, *, internet: bool, binds: tuple[str, ...]
    ) -> None:
        self.world, self.number, self.internet, self.binds = world, number, internet, binds
        self.alias = f"guest{number}"
        self.ip = f"10.77.0.{10 + number}"
        self.netns = f"{world.name}-{number}"
        self.root = world.folder / f"root{number}"
        self.link = f"v{number}"
        run("cp", "-a", "--reflink=auto", tree, self.root)
        self._seed()
        self._process: subprocess.Popen[bytes] | None = None

    @cached_property
    def config(self) -> Path:
        """The SSH configuration that reaches this machine from anywhere on this computer, and trusts only its own key."""
        return self._write_config(
            "config", f"  ProxyCommand nsenter --net=/run/netns/{self.world.name} socat - TCP:{self.ip}:22\n"
        )

    @cached_property
    def config_inside(self) -> Path:
        """The same for programs that run in the machines' network themselves."""
        return self._write_config("inside", "")

    def remote(self) -> Remote:
        """The machine as swarm reaches it."""
        return Remote(self.config, self.alias)

    def _write_config(self, suffix: str, more: str, user: str = "root") -> Path:
        path = self.world.folder / f"{self.alias}.{suffix}"
        pins = self.world.folder / f"{self.alias}.known_hosts"
        pins.write_text(f"{self.alias} " + (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text())
        path.write_text(
            f"Host {self.alias}\n  HostName {self.ip}\n  User {user}\n  HostKeyAlias {self.alias}\n"
            f"  IdentityFile {self.world.key}\n  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n"
            f"  UserKnownHostsFile {pins}\n  GlobalKnownHostsFile /dev/null\n{more}"
        )
        return path

    def config_for(self, user: str) -> Path:
        """The SSH configuration for another login."""
        proxy = f"  ProxyCommand nsenter --net=/run/netns/{self.world.name} socat - TCP:{self.ip}:22\n"
        return self._write_config(f"config-{user}", proxy, user)

    def _seed(self) -> None:
        for folder in ("root/.ssh", "etc/sudoers.d"):
            (self.root / folder).mkdir(mode=0o700, exist_ok=True)
        public = self.world.key.with_suffix(".pub").read_text()
        (self.root / "root/.ssh/authorized_keys").write_text(public)
        (self.root / "etc/machine-id").write_text(uuid4().hex + "\n")
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        key = self.root / "etc/ssh/ssh_host_ed25519_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.alias, "-f", key)

    def boot(self) -> None:
        """Start the machine and wait until its SSH server answers."""
        world, near = self.world.name, self.netns
        run("ip", "netns", "add", near)
        run(
            "ip",
            "-n",
            world,
            "link",
            "add",
            self.link,
            "type",
            "veth",
            "peer",
            "name",
            "host0",
            "netns",
            near,
        )
        run("ip", "-n", world, "link", "set", self.link, "master", "br0", "up")
        run("ip", "-n", near, "link", "set", "lo", "up")
        run("ip", "-n", near, "addr", "add", f"{self.ip}/24", "dev", "host0")
        run("ip", "-n", near, "link", "set", "host0", "up")
        if self.internet:
            # A gate to the package registries, by this computer's own sockets. As root, for it must enter the namespace.
            quiet = ("--quiet", "--no-map-gw", "-t", "none", "-u", "none", "-T", "none", "-U", "none")
            run(
                "pasta",
                "--runas",
                "0",
                "--config-net",
                "--netns",
                f"/run/netns/{near}",
                "-P",
                self._pasta_pid,
                *quiet,
            )
        self._start()

    def _start(self) -> None:
        command = [
            "systemd-nspawn",
            "-q",
            "--register=no",
            "--keep-unit",
            "--boot",
            "--console=pipe",
            "--capability=all",
            "--timezone=off",
        ]
        # The clock is this computer's: a guest with a time zone of its own would set it.
        command += ["--drop-capability=CAP_SYS_TIME"]
        command += [
            f"--network-namespace-path=/run/netns/{self.netns}",
            "-D",
            str(self.root),
            "--system-call-filter=add_key keyctl bpf",
        ]
        command += [f"--bind={path}" for path in self.binds]
        with (self.world.folder / f"{self.alias}.log").open("ab") as log:
            # SYSTEMD_NSPAWN_API_VFS_WRITABLE: /proc/sys can be written, so that sysctls are real.
            env = {**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1"}
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )
        self.wait()
        # Where this computer has cgroups of version 1, nspawn mounts them read-only; Docker needs to write there.
        self.ssh(
            "for folder in /sys/fs/cgroup/*; do mount -o remount,bind,rw $folder 2>/dev/null; done; true"
        )

    def wait(self, limit: float = 60) -> None:
        """Wait until sshd answers and the system is up."""
        end = time.monotonic() + limit
        probe = "systemctl is-system-running --wait"
        while True:
            done = subprocess.run(
                ["ssh", "-F", str(self.config), self.alias, probe],
                check=False,
                capture_output=True,
                text=True,
            )
            if done.stdout.strip() in {"running", "degraded"}:
                return
            assert time.monotonic() < end, f"{self.alias} did not come up: {done.stdout} {done.stderr}"
            time.sleep(0.2)

    def login(self, name: str, sudoers: str = "") -> Path:
        """Make a login that the same key opens, with a line for sudo if given, and return the SSH configuration for it."""
        keys = f"/home/{name}/.ssh"
        self.ssh(
            f"id {name} >/dev/null 2>&1 || useradd -m -s /bin/bash {name}; install -d -m 700 -o {name} {keys}; "
            f"install -m 600 -o {name} /root/.ssh/authorized_keys {keys}/; echo '{sudoers}' >/etc/sudoers.d/{name}"
        )
        return self.config_for(name)

    def ssh(self, command: str, *, user: str = "root") -> str:
        """Run a command in the machine, without any of the code under test, and return its output."""
        config = self.config if user == "root" else self.config_for(user)
        return run("ssh", "-F", config, self.alias, command)

    def reboot(self) -> None:
        """Reboot the machine as `reboot` does, and wait until it is back."""
        subprocess.run(
            ["ssh", "-F", str(self.config), self.alias, "systemctl reboot"], check=False, capture_output=True
        )
        self.after_reboot()

    def after_reboot(self) -> None:
        """Wait until the machine, which is going down for a reboot, is back. With --keep-unit, nspawn leaves the second start to us."""
        assert self._process is not None
        assert self._process.wait(60) == 133, (
            "the machine did not reboot"
        )  # what nspawn ends with when its guest wants to reboot
        self._start()

    def cable(self, *, plugged: bool) -> None:
        """Pull the network cable, or plug it in."""
        run("ip", "-n", self.world.name, "link", "set", self.link, "up" if plugged else "down")

    def stop(self) -> None:
        """Stop the machine and everything that belongs to it."""
        if self._process is not None:
            # SIGTERM is nspawn's "power off"; a machine that hangs loses its power.
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                for pid in _children(self._process.pid):
                    os.kill(pid, signal.SIGKILL)
                self._process.wait(20)
            self._process = None
        if self.internet and self._pasta_pid.exists():
            os.kill(int(self._pasta_pid.read_text()), signal.SIGTERM)
        run("ip", "netns", "del", self.netns, check=False)
        for folder in Path("/sys/fs/cgroup").glob("*/docker"):  # made by a machine's Docker, and empty by now
            with contextlib.suppress(OSError):
                folder.rmdir()

    @property
    def _pasta_pid(self) -> Path:
        return self.world.folder / f"{self.alias}.pasta"


def _children(pid: int) -> Iterable[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
