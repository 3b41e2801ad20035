"""Whether this machine can run KVM guests. Standard library only, since host.py imports it as root."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["usable_kvm"]


def usable_kvm() -> bool:
    """Return True if KVM works here: the CPU has virtualization extensions, and the kernel can create a VM."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    if not {"vmx", "svm"} & set(flags):
        return False
    try:
        device = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.close(fcntl.ioctl(device, 0xAE01, 0))  # KVM_CREATE_VM of linux/kvm.h
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(device)
