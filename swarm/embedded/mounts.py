"""The mounts and configuration files that hide the machine's libvirt. Standard library only, since it runs as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

__all__ = ["FOLDERS", "hide_kvm", "mount_private", "mount_sysfs", "run", "virtlogd"]

# The directories in STATE that are mounted over libvirt's own.
FOLDERS = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "run": "/run/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}

_LIBVIRTD_CONF = """\
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""

# virtlogd writes the consoles' logs, which a guest would otherwise let grow without an end: 4 MiB and the 4 before.
_VIRTLOGD_CONF = """\
max_size = 4194304
max_backups = 1
"""

# Each setting is needed: libvirt cannot move the private /dev into a domain's namespace, and a security driver would
# load profiles into the machine's kernel.
_QEMU_CONF = """\
namespaces = [ ]
stdio_handler = "{handler}"
security_driver = "none"
user = "+{uid}"
group = "+{gid}"
swtpm_user = "{swtpm}"
swtpm_group = "{swtpm}"
"""


def run(*argv: str) -> None:
    """Run a program. Its messages go to standard error. Raise CalledProcessError if it fails."""
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def _account(*names: str) -> tuple[str, int, int]:
    for name in names:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return name, entry.pw_uid, entry.pw_gid
    return "root", 0, 0


def mount_private(state: Path) -> None:
    """Mount directories of `state` over libvirt's and swtpm's own, and write libvirt's configuration."""
    for name, target in FOLDERS.items():
        (state / name).mkdir(mode=0o755, exist_ok=True)
        _cover(state / name, target)
    # QEMU's user needs access to the disks, but not the right to list directories.
    (state / "lib").chmod(0o711)
    swtpm, uid, gid = _account("tss", "swtpm")
    for name, target in (("swtpm-ca", "/var/lib/swtpm-localca"), ("swtpm-log", "/var/log/swtpm")):
        (state / name).mkdir(mode=0o750, exist_ok=True)
        os.chown(state / name, uid, gid)
        _cover(state / name, target)
    # Hide the system bus, so that libvirt does not register its guests with the machine's systemd.
    if Path("/run/dbus").is_dir():
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run/dbus")
    _, uid, gid = _account("libvirt-qemu", "qemu")
    (state / "etc/libvirtd.conf").write_text(_LIBVIRTD_CONF, encoding="utf-8")
    (state / "etc/virtlogd.conf").write_text(_VIRTLOGD_CONF, encoding="utf-8")
    handler = "logd" if virtlogd() else "file"
    text = _QEMU_CONF.format(handler=handler, uid=uid, gid=gid, swtpm=swtpm)
    (state / "etc/qemu.conf").write_text(text, encoding="utf-8")


def virtlogd() -> str | None:
    """Return the path of libvirt's writer of logs, or None: some distributions leave it out."""
    return shutil.which("virtlogd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _cover(own: Path, target: str) -> None:
    Path(target).mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", str(own), target)


def mount_sysfs(state: Path) -> None:
    """Mount a /sys that shows this namespace's network devices. Keep the cgroups, without which libvirt crashes."""
    groups = state / "cgroup"
    groups.mkdir(exist_ok=True)
    run("mount", "--rbind", "/sys/fs/cgroup", str(groups))
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "--rbind", str(groups), "/sys/fs/cgroup")
    run("umount", "-l", str(groups))


def hide_kvm(state: Path) -> None:
    """Mount a /dev without the unusable kvm device, which libvirt would probe for 30 s for each definition."""
    new = state / "dev"
    new.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(new))
    names = (
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "net",
        "ptmx",
        "fd",
        "stdin",
        "stdout",
        "stderr",
        "vhost-net",
    )
    run("cp", "-a", *(f"/dev/{name}" for name in names if os.path.lexists(f"/dev/{name}")), str(new))
    for name in ("pts", "shm"):
        (new / name).mkdir()
        run("mount", "--rbind", f"/dev/{name}", str(new / name))
    run("mount", "--rbind", str(new), "/dev")
