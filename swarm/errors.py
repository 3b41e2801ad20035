"""The exception hierarchy. Each error carries a message and, where one exists, a hint.

SwarmError
├── InventoryError        a host file is invalid
├── UsageError            the command line is invalid
├── Refused               carrying out the command would lose or break something
├── Unfit                 this machine does not provide what the command needs
├── HypervisorError       libvirt reported an error
├── ImageError            an image can't be downloaded, built or trusted
├── Unreachable           a guest can't be reached
├── CommandFailed         a program ended with an error
├── VerificationFailed    the result is not what was promised
├── RemoteError           another service reported an error
└── InternalError         a defect of swarm
"""

from __future__ import annotations

__all__ = [
    "CommandFailed",
    "HypervisorError",
    "ImageError",
    "InternalError",
    "InventoryError",
    "Refused",
    "RemoteError",
    "SwarmError",
    "Unfit",
    "Unreachable",
    "UsageError",
    "VerificationFailed",
    "explained",
]


class SwarmError(Exception):
    """A failure that a person can act on. `message` is one sentence; `hint`, if there is one, says what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class InventoryError(SwarmError):
    """A host file, or the set of host files, is invalid."""


class UsageError(SwarmError):
    """A command was called with invalid options."""


class Refused(SwarmError):
    """Swarm refuses to do this because something would be lost."""


class Unfit(SwarmError):
    """The machine does not provide a program, a device, a permission or the disk space that the command needs."""


class HypervisorError(SwarmError):
    """Libvirt refused or failed."""


class ImageError(SwarmError):
    """An image can't be downloaded, built or trusted."""


class Unreachable(SwarmError):
    """A guest does not answer, or its identity does not match."""


class CommandFailed(SwarmError):
    """A program that swarm ran ended with an error."""


class VerificationFailed(SwarmError):
    """The result is not what was promised."""


class RemoteError(SwarmError):
    """Another service reported an error."""


class InternalError(SwarmError):
    """An exception that only a defect of swarm explains."""


def explained(error: Exception) -> SwarmError:
    """Turn any exception into a SwarmError. An OSError names its file; what is unforeseen becomes an InternalError."""
    if isinstance(error, SwarmError):
        return error
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return SwarmError(f"{reason}: {error.filename}" if error.filename else reason)
    return InternalError(
        _internal(error), "SWARM_DEBUG=1 shows the traceback; report it as a defect of swarm"
    )


def _internal(error: Exception) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the error's own __str__ is as defective as the rest
        text = ""
    return "internal error: " + ": ".join(filter(None, (type(error).__name__, text)))
