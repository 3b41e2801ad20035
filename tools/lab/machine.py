"""One booted Debian system: boot, log in, wait, reboot, pull the cable, end it.

Every wait has a limit that allows for a computer with much other work. When it is exceeded, the error tells what was
waited for and shows what the machine itself reports: its pending jobs, its journal, its console.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from swarm.deadline import Deadline
from swarm.ssh.guest import Guest
from tools.lab.cgroups import make_groups, remove_groups, run_in
from tools.lab.process import LabError, children, end, run
from tools.lab.report import report
from tools.lab.wayout import WayOut

if TYPE_CHECKING:
    from tools.lab.world import World

__all__ = ["Machine"]

_BOOT = 240.0  # seconds; idle, a boot takes 3
_SHUTDOWN = 300.0  # seconds: systemd gives a user's session 120, and every other unit 90
_ANSWER = 30.0  # seconds for one login that only asks for the system's state
_HEALTH = 60.0  # seconds for a machine that should be up to show that it is
_COMMAND = 900.0  # seconds for one command in a machine; the longest install packages
_REBOOT = 133  # the exit code of systemd-nspawn when its guest has asked for a reboot
_UP = {"running", "degraded"}  # degraded: up, with a unit that failed, as tests cause on purpose

_NSPAWN = (
    "systemd-nspawn",
    "-q",
    "--register=no",
    "--keep-unit",
    "--boot",
    "--console=pipe",
    "--capability=all",
    "--timezone=off",
    "--drop-capability=CAP_SYS_TIME",  # the clock is this computer's: a guest with its own time zone would set it
    "--system-call-filter=add_key keyctl bpf",
)


class Machine:
    """One booted system. Make it with `World.machine`."""

    def __init__(
        self, world: World, number: int, tree: Path, *, internet: bool, binds: tuple[str, ...]
    ) -> None:
        self.world, self.number, self.internet, self.binds = world, number, internet, binds
        self.alias = f"guest{number}"
        self.ip = f"10.77.0.{10 + number}"
        self.netns = f"{world.name}-{number}"
        self.root = world.folder / f"root{number}"
        self.link = f"v{number}"
        self._tree = tree
        self._process: subprocess.Popen[bytes] | None = None
        self.way_out: WayOut | None = None

    # ── how to reach it ────────────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def config(self) -> Path:
        """The SSH configuration that reaches this machine from this computer and trusts only its own key."""
        return self._write_config("config", self._proxy)

    @cached_property
    def config_inside(self) -> Path:
        """The same for programs that run in the machines' network themselves."""
        return self._write_config("inside", "")

    def config_for(self, user: str) -> Path:
        """Return the SSH configuration for another login."""
        return self._write_config(f"config-{user}", self._proxy, user)

    @property
    def _proxy(self) -> str:
        return f"  ProxyCommand nsenter --net=/run/netns/{self.world.name} socat - TCP:{self.ip}:22\n"

    @property
    def public_key(self) -> str:
        """The machine's SSH host key, as "type key comment"."""
        return (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().strip()

    def _write_config(self, suffix: str, more: str, user: str = "root") -> Path:
        path = self.world.folder / f"{self.alias}.{suffix}"
        pins = self.world.folder / f"{self.alias}.known_hosts"
        pins.write_text(f"{self.alias} {self.public_key}\n")
        path.write_text(
            f"Host {self.alias}\n  HostName {self.ip}\n  User {user}\n  HostKeyAlias {self.alias}\n"
            f"  IdentityFile {self.world.key}\n  IdentitiesOnly yes\n  StrictHostKeyChecking yes\n"
            f"  UserKnownHostsFile {pins}\n  GlobalKnownHostsFile /dev/null\n{more}"
        )
        return path

    def guest(self) -> Guest:
        """Return the machine as swarm reaches it."""
        return Guest(self.config, self.alias)

    def ssh(self, command: str, *, user: str = "root", limit: float = _COMMAND) -> str:
        """Run a command in the machine, without any of the code under test, and return its standard output.

        Raise LabError, with its last lines, if it fails or takes more than `limit` seconds.
        """
        config = self.config if user == "root" else self.config_for(user)
        return run("ssh", "-F", config, self.alias, command, limit=limit)

    def login(self, name: str, sudoers: str = "") -> Path:
        """Create a login that accepts the same key, with an entry in sudoers if given. Return its SSH configuration."""
        keys = f"/home/{name}/.ssh"
        self.ssh(
            f"id {name} >/dev/null 2>&1 || useradd -m -s /bin/bash {name}; install -d -m 700 -o {name} {keys}; "
            f"install -m 600 -o {name} /root/.ssh/authorized_keys {keys}/; echo '{sudoers}' >/etc/sudoers.d/{name}"
        )
        return self.config_for(name)

    # ── waiting ────────────────────────────────────────────────────────────────────────────────────────────────────

    def wait(self, limit: float = _BOOT) -> None:
        """Wait until the system is up and accepts root over SSH. Raise LabError if it ends or takes too long."""
        deadline, answer = Deadline(limit), ""
        while not deadline.expired:
            if self._process is None or self._process.poll() is not None:
                raise LabError(f"{self.alias} is not running{self._report()}")
            if (said := self._ask_state(min(_ANSWER, deadline.remaining))) in _UP:
                return
            answer = said or answer  # the last attempt may have had too little time for one
            deadline.pause(0.2)
        raise LabError(
            f"{self.alias} was not up within {limit:.0f} s; its last answer: {answer or 'none'}{self._report()}"
        )

    def _ask_state(self, limit: float) -> str:
        """Return the system's state over SSH: what systemd calls it once it is up, else why it could not be asked.

        Nothing stands for no answer within `limit` seconds.
        """
        command = ["ssh", "-F", str(self.config), self.alias, "systemctl is-system-running --wait"]
        try:
            done = subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return ""
        return (done.stdout or done.stderr).decode("utf-8", "replace").strip()

    def healthy(self) -> bool:
        """Return True if the machine runs, its system is up, and root can log in."""
        try:
            self.wait(_HEALTH)
        except LabError:
            return False
        return True

    def until(self, command: str, what: str, limit: float = _BOOT) -> None:
        """Repeat a shell command in the machine every 0.2 s until it succeeds, all over one login.

        `what` names the condition. Raise LabError, with the command's last output, after `limit` seconds.
        """
        attempt = f"said=$({{ {command}\n}} 2>&1)"
        loop = (
            f"end=$(($(cut -d. -f1 /proc/uptime) + {limit:.0f})); until {attempt}; do "
            'if [ "$(cut -d. -f1 /proc/uptime)" -ge $end ]; then printf "%s\\n" "$said"; exit 1; fi; sleep 0.2; done'
        )
        try:
            self.ssh(loop, limit=limit + _HEALTH)
        except LabError as error:
            message = f"{self.alias}: no success within {limit:.0f} s: {what}: {error}{self._report()}"
            raise LabError(message) from None

    def _report(self) -> str:
        return report(self._process.pid if self._process else None, self._log)

    @property
    def _log(self) -> Path:
        return self.world.folder / f"{self.alias}.log"

    # ── its life ───────────────────────────────────────────────────────────────────────────────────────────────────

    def boot(self) -> None:
        """Make the machine's files and network, start it, and wait until it is up. Raise LabError if it is not."""
        run("cp", "-a", "--reflink=auto", self._tree, self.root)
        self._seed()
        self._connect()
        self._start()

    def _seed(self) -> None:
        for folder in ("root/.ssh", "etc/sudoers.d"):
            (self.root / folder).mkdir(mode=0o700, exist_ok=True)
        public = self.world.key.with_suffix(".pub").read_text()
        (self.root / "root/.ssh/authorized_keys").write_text(public)
        (self.root / "etc/machine-id").write_text(uuid4().hex + "\n")
        (self.root / "etc/hostname").write_text(f"{self.alias}\n")
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        # The machine does not outlive a power cut, so dpkg need not wait for the disk, which takes a fifth of its time.
        (self.root / "etc/dpkg/dpkg.cfg.d/lab").write_text("force-unsafe-io\n")
        # Each new attempt at a source that is out of reach costs seconds.
        retries = "" if self.internet else 'Acquire::Retries "0";\n'
        (self.root / "etc/apt/apt.conf.d/90lab").write_text(f'Acquire::Languages "none";\n{retries}')
        key = self.root / "etc/ssh/ssh_host_ed25519_key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.alias, "-f", key)

    def _connect(self) -> None:
        world, near = self.world.name, self.netns
        run("ip", "netns", "add", near)
        peer = ("type", "veth", "peer", "name", "host0", "netns", near)
        run("ip", "-n", world, "link", "add", self.link, *peer)
        run("ip", "-n", world, "link", "set", self.link, "master", "br0", "up")
        run("ip", "-n", near, "link", "set", "lo", "up")
        run("ip", "-n", near, "addr", "add", f"{self.ip}/24", "dev", "host0")
        run("ip", "-n", near, "link", "set", "host0", "up")
        if self.internet:
            self.way_out = WayOut(near, self.world.folder / f"{self.alias}.pasta")

    def _start(self) -> None:
        place = (f"--network-namespace-path=/run/netns/{self.netns}", "-D", str(self.root))
        nspawn = [*_NSPAWN, *place, *(f"--bind={path}" for path in self.binds)]
        remove_groups(self._group)
        command = run_in(make_groups(self._group), nspawn)
        # SYSTEMD_NSPAWN_API_VFS_WRITABLE: /proc/sys can be written, so that sysctls are real.
        env = {**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )
        self.wait()
        # Where this computer has cgroups of version 1, nspawn mounts them read-only; Docker needs to write there.
        self.ssh(
            "for folder in /sys/fs/cgroup/*; do mount -o remount,bind,rw $folder 2>/dev/null; done; true"
        )

    def reboot(self) -> None:
        """Reboot the machine as the command `reboot` does, and wait until it is up again. Raise LabError if not."""
        with contextlib.suppress(LabError):  # the connection may break before the command is done
            self.ssh("systemctl reboot", limit=_ANSWER)
        self.after_reboot()

    def after_reboot(self) -> None:
        """Wait until the machine, which is going down for a reboot, is up again. Raise LabError if it is not.

        With --keep-unit, systemd-nspawn leaves the second start to its caller.
        """
        code = self._exit_code(_SHUTDOWN)
        if code is None:
            raise LabError(
                f"{self.alias} did not shut down for its reboot within {_SHUTDOWN:.0f} s{self._report()}"
            )
        if code != _REBOOT:
            raise LabError(f"{self.alias} ended with exit code {code} instead of rebooting{self._report()}")
        self._start()

    def _exit_code(self, limit: float) -> int | None:
        if self._process is None:
            raise LabError(f"{self.alias} is not running")
        try:
            return self._process.wait(limit)
        except subprocess.TimeoutExpired:
            return None

    def cable(self, *, plugged: bool) -> None:
        """Pull the network cable, or plug it in."""
        run("ip", "-n", self.world.name, "link", "set", self.link, "up" if plugged else "down")

    def stop(self) -> None:
        """End the machine and everything that belongs to it, as a power cut would: its files are not used again."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._forget_docker)
            stack.callback(remove_groups, self._group)
            stack.callback(run, "ip", "netns", "del", self.netns, check=False)  # pasta ends with it
            stack.callback(self._kill)
            if self.way_out:
                stack.callback(self.way_out.close)

    def _kill(self) -> None:
        if self._process is None:
            return
        end(children(self._process.pid))  # the system's first process, and with it all others
        if self._exit_code(_HEALTH) is None:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def _group(self) -> str:
        return f"swarm-{self.netns}"

    @staticmethod
    def _forget_docker() -> None:
        for folder in Path("/sys/fs/cgroup").glob("*/docker"):  # made by a machine's Docker, and empty by now
            with contextlib.suppress(OSError):
                folder.rmdir()
