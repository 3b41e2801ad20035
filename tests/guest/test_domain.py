"""The machine itself: firmware, TPM, share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def test_secure_boot(guest: Guest, expected: Expected) -> None:
    """The guest was booted with Secure Boot."""
    if not expected.secure_boot:
        pytest.skip("the host file promises no Secure Boot")
    # Four bytes of attributes, then the value (UEFI 2.10, 3.3).
    assert guest.out(f"od -An -tu1 -j4 -N1 {SECURE_BOOT}") == "1"


def test_tpm(guest: Guest, expected: Expected) -> None:
    """The guest has a TPM of version 2."""
    if not expected.tpm:
        pytest.skip("the host file promises no TPM")
    assert guest.out("test -c /dev/tpm0 && cat /sys/class/tpm/tpm0/tpm_version_major") == "2"


def test_share(guest: Guest, expected: Expected) -> None:
    """The shared folder is mounted and can be written."""
    if not expected.share:
        pytest.skip("the host file has no share")
    tag, target = expected.share
    assert guest.out(f"findmnt -n -o SOURCE,FSTYPE --mountpoint '{target}'").split() == [tag, "virtiofs"]
    name = f"'{target}'/.swarm-verify"
    assert guest.out(f"echo written >{name} && cat {name} && rm {name}") == "written"


def test_share_after_boot(guest: Guest, expected: Expected) -> None:
    """The share is mounted at boot, and a boot without it does not hang."""
    if not expected.share:
        pytest.skip("the host file has no share")
    tag, target = expected.share
    options = guest.out(f"findmnt -n --fstab -o OPTIONS --source '{tag}' --target '{target}'")
    assert "nofail" in options.split(",")
