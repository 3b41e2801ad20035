"""Everything that can go wrong, as one tree; each error is a sentence and, where there is one, a remedy.

SwarmError
├── InventoryError        a host file says something that cannot be
├── UsageError            a command line says something that cannot be
├── Refused               the wish is clear, but doing it would lose or break something
├── Unfit                 this machine lacks what the work needs
├── HypervisorError       libvirt said no
├── ImageError            an image cannot be fetched, built or trusted
├── Unreachable           a guest does not answer as it should
├── CommandFailed         a program ended with an error
├── VerificationFailed    the result is not what was promised
└── RemoteError           another service said no
"""

from __future__ import annotations

__all__ = [
    "CommandFailed",
    "HypervisorError",
    "ImageError",
    "InventoryError",
    "Refused",
    "RemoteError",
    "SwarmError",
    "Unfit",
    "Unreachable",
    "UsageError",
    "VerificationFailed",
]


class SwarmError(Exception):
    """A failure that a person can act on. Given a one-sentence message and, optionally, a hint: what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class InventoryError(SwarmError):
    """A host file, or the set of host files, is wrong."""


class UsageError(SwarmError):
    """A command was called with options that make no sense."""


class Refused(SwarmError):
    """Swarm will not do this, because something would be lost."""


class Unfit(SwarmError):
    """The machine lacks a program, a device, a right or the space that the work needs."""


class HypervisorError(SwarmError):
    """Libvirt refused or failed."""


class ImageError(SwarmError):
    """An image cannot be fetched, built or trusted."""


class Unreachable(SwarmError):
    """A guest does not answer, or answers as somebody else."""


class CommandFailed(SwarmError):
    """A program that swarm ran ended with an error."""


class VerificationFailed(SwarmError):
    """What was made is not what was promised."""


class RemoteError(SwarmError):
    """Another service answered with an error."""
