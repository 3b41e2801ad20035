"""A second libvirtd beside the embedded hypervisor's, on a machine from which a test takes a program or a right."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from swarm.embedded.host import accepts
from tests.embedded import first_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from swarm.embedded import Embedded

__all__ = ["second_libvirtd"]

_WITHIN = 60.0  # seconds to come up, on a machine that is busy with other tests

# $1: the folder of this libvirtd, $2: what the test does to the machine. The shell must stay: as the first process in
# its PID namespace it reaps the QEMUs that libvirt probes. libvirt waits 40 s for the end of one that is not reaped.
_INSIDE = """
mount -t proc proc /proc
for name in etc run; do mount --bind "$1/$name" "/$name/libvirt"; done
for name in lib log cache; do mount -t tmpfs -o mode=755 tmpfs "/var/$name/libvirt"; done
PATH=$PATH:/usr/sbin:/sbin
eval "$2"
libvirtd
exit $?
"""
_QEMU_CONF = """\
namespaces = [ ]
stdio_handler = "file"
security_driver = "{driver}"
swtpm_user = "root"
swtpm_group = "root"
"""


@contextmanager
def second_libvirtd(embedded: Embedded, folder: Path, change: str, *, driver: str = "none") -> Iterator[str]:
    """Run a libvirtd in the mounts and the network of `embedded`, and yield its URI. Everything in it ends with it.

    The shell code `change` runs first, in a mount namespace of this libvirtd's own. `driver` is its security driver.
    """
    for name in ("etc", "run"):
        (folder / name).mkdir(mode=0o755)
    (folder / "etc/qemu.conf").write_text(_QEMU_CONF.format(driver=driver), encoding="utf-8")
    (folder / "etc/libvirtd.conf").write_text('auth_unix_rw = "none"\n', encoding="utf-8")
    argv = ["nsenter", f"--target={first_process(embedded)}", "--mount", "--net"]
    argv += ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    argv += ["sh", "-ec", _INSIDE, "sh", str(folder), change]
    listening, log = folder / "run/libvirt-sock", folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        limit = time.monotonic() + _WITHIN
        while not accepts(listening):
            shown = log.read_text(encoding="utf-8", errors="replace")
            assert process.poll() is None, f"libvirtd ended: {shown}"
            assert time.monotonic() < limit, f"libvirtd did not start within {_WITHIN:g} s: {shown}"
            time.sleep(0.02)
        yield f"qemu+unix:///system?socket={quote(str(listening))}"
    finally:
        process.kill()
        process.wait()
