"""How the machine booted: firmware and TPM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from swarm.guest.verify import Expected
    from tests.guest.conftest import Guest

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def test_secure_boot(guest: Guest, expected: Expected) -> None:
    """The guest booted with Secure Boot."""
    if not expected.secure_boot:
        pytest.skip("the host file does not promise Secure Boot")
    # Four bytes of attributes, then the value (UEFI 2.10, 3.3).
    assert guest.out(f"od -An -tu1 -j4 -N1 {SECURE_BOOT}") == "1"


def test_tpm(guest: Guest, expected: Expected) -> None:
    """The guest has a TPM 2.0."""
    if not expected.tpm:
        pytest.skip("the host file does not promise a TPM")
    assert guest.out("test -c /dev/tpm0 && cat /sys/class/tpm/tpm0/tpm_version_major") == "2"
