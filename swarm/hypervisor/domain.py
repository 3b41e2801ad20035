"""A libvirt domain: its definition, its state and its metadata."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import secrets
import time
from typing import Any

import libvirt

from swarm.errors import HypervisorError, Refused
from swarm.hypervisor.connection import Libvirt, found, translated

__all__ = ["NAMESPACE", "Domain", "Trial"]

# The XML namespace of swarm's note in a domain's metadata. It is only a name.
NAMESPACE = "urn:swarm:domain:1"
_PREFIX = "swarm"

_POLL = 0.2  # seconds between two checks of a domain's state


class Domain:
    """A libvirt domain. Create it with `find` or `define`."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401 - libvirt's objects have no types
        self.raw = raw
        self.name = str(raw.name())

    @classmethod
    def find(cls, connection: Libvirt, name: str) -> Domain | None:
        """Return the domain called `name`, or None."""
        with translated(f"looking up the domain {name}"):
            raw = found(connection.raw.lookupByName, name, libvirt.VIR_ERR_NO_DOMAIN)
        return cls(raw) if raw else None

    @classmethod
    def find_by_uuid(cls, connection: Libvirt, uuid: str) -> Domain | None:
        """Return the domain with this UUID, or None."""
        with translated("looking up the domain by its UUID"):
            raw = found(connection.raw.lookupByUUIDString, uuid, libvirt.VIR_ERR_NO_DOMAIN)
        return cls(raw) if raw else None

    @classmethod
    def all(cls, connection: Libvirt) -> list[Domain]:
        """Return every domain of the hypervisor."""
        with translated("listing the domains"):
            return [cls(raw) for raw in connection.raw.listAllDomains()]

    @classmethod
    def define(cls, connection: Libvirt, xml: str) -> Domain:
        """Define a domain, or redefine the one with the same UUID. A running domain changes at its next start."""
        with translated("defining the VM"):
            return cls(connection.raw.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE))

    @property
    def uuid(self) -> str:
        """The domain's UUID."""
        return str(self.raw.UUIDString())

    @property
    def active(self) -> bool:
        """Whether it is running or paused."""
        with translated(f"reading the state of the VM {self.name}"):
            return bool(self.raw.isActive())

    @property
    def state(self) -> str:
        """Return running, paused, shutting-down, crashed, suspended or stopped."""
        words = {
            libvirt.VIR_DOMAIN_RUNNING: "running",
            libvirt.VIR_DOMAIN_PAUSED: "paused",
            libvirt.VIR_DOMAIN_SHUTDOWN: "shutting-down",
        }
        words |= {
            libvirt.VIR_DOMAIN_CRASHED: "crashed",
            libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
            libvirt.VIR_DOMAIN_BLOCKED: "running",
        }
        with translated(f"reading the state of the VM {self.name}"):
            return words.get(self.raw.state()[0], "stopped")

    @property
    def autostart(self) -> bool:
        """Whether it starts with its hypervisor."""
        with translated(f"reading the domain {self.name}"):
            return bool(self.raw.autostart())

    @autostart.setter
    def autostart(self, wanted: bool) -> None:
        with translated("setting autostart"):
            self.raw.setAutostart(int(wanted))

    def xml(self, *, live: bool = False) -> str:
        """Return the stored definition, or with `live` the running one."""
        with translated(f"reading the domain {self.name}"):
            return str(self.raw.XMLDesc(0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE))

    def note(self, *, live: bool = False) -> str | None:
        """Return swarm's note in the domain's metadata as XML, or None.

        A transient domain has no stored note. One that has just been removed has none at all.
        """
        flag = libvirt.VIR_DOMAIN_AFFECT_LIVE if live else libvirt.VIR_DOMAIN_AFFECT_CONFIG
        with translated(f"reading the metadata of the domain {self.name}"):
            text = found(self._metadata, flag, libvirt.VIR_ERR_NO_DOMAIN)
        return None if text is None else str(text)

    def _metadata(self, flag: int) -> Any:  # noqa: ANN401 - as above
        if flag == libvirt.VIR_DOMAIN_AFFECT_CONFIG and not self.raw.isPersistent():
            return None
        kind, missing = libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt.VIR_ERR_NO_DOMAIN_METADATA
        return found(lambda uri: self.raw.metadata(kind, uri, flag), NAMESPACE, missing)

    def disk_is_missing(self, target: str) -> bool:
        """Return True if the file of the disk `target` certainly does not exist. Return False if that is unknown."""
        try:
            self.raw.blockInfo(target)
        except libvirt.libvirtError as error:
            return bool(error.get_int1() == errno.ENOENT)
        return False

    def write_note(self, xml: str, *, live: bool = False) -> None:
        """Write swarm's note into the stored definition, and with `live` into the running one too."""
        flag = libvirt.VIR_DOMAIN_AFFECT_CONFIG | (libvirt.VIR_DOMAIN_AFFECT_LIVE if live else 0)
        with translated("writing the domain's metadata"):
            self.raw.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, xml, _PREFIX, NAMESPACE, flag)

    def start(self) -> None:
        """Start the VM, or resume a paused one."""
        with translated(f"starting the VM {self.name}"):
            if self.state == "paused":
                self.raw.resume()
            else:
                self.raw.create()

    def shutdown(self, limit: float) -> bool:
        """Ask the guest to power off. Return True if it did within `limit` seconds.

        The guest agent is asked first and the power button pressed otherwise, since either may have no
        effect.
        """
        end = time.monotonic() + limit
        again = 0.0
        while self.active:
            if time.monotonic() >= end:
                return False
            if time.monotonic() >= again:
                for flag in (
                    libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
                    libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
                ):
                    with contextlib.suppress(libvirt.libvirtError):
                        self.raw.shutdownFlags(flag)
                        break
                again = time.monotonic() + 15  # a guest in early boot ignores the first request
            time.sleep(_POLL)
        return True

    def power_off(self) -> None:
        """Power off at once, if the VM is running. The guest gets no chance to write its data."""
        with translated(f"powering off the VM {self.name}"), contextlib.suppress(_NotRunning):
            try:
                self.raw.destroy()
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
                    raise _NotRunning from error
                raise

    def undefine(self) -> None:
        """Remove the definition with NVRAM, TPM state, saved memory, and snapshot and checkpoint metadata.

        A transient domain that was powered off is gone already.
        """
        flags = libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        flags |= getattr(
            libvirt, "VIR_DOMAIN_UNDEFINE_TPM", 0
        )  # libvirt 8.9 and newer; older versions always remove it
        with translated(f"removing the VM {self.name}"):
            found(self._undefine, flags, libvirt.VIR_ERR_NO_DOMAIN)

    def _undefine(self, flags: int) -> None:
        try:
            self.raw.undefineFlags(flags)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
                raise
            self.raw.undefine()  # the test driver has none of these flags

    def detach(self, device_xml: str, target: str, limit: float) -> None:
        """Remove a disk from the stored definition and from the running VM.

        The guest must release the disk: wait up to `limit` seconds and repeat the request, which a guest in
        early boot ignores. Raise HypervisorError if it keeps the disk.
        """
        stored = f"dev='{target}'" in self.xml()
        if stored:
            with translated("ejecting the seed"):
                self.raw.detachDeviceFlags(device_xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        end = time.monotonic() + limit
        again = 0.0
        while self.active and f"dev='{target}'" in self.xml(live=True):
            if time.monotonic() >= end:
                raise HypervisorError(
                    "ejecting the seed failed: the guest does not release it",
                    "restart the VM, and run the command again",
                )
            if time.monotonic() >= again:
                with contextlib.suppress(libvirt.libvirtError):  # "already in the process of unplug"
                    self.raw.detachDeviceFlags(device_xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)
                again = time.monotonic() + 5
            time.sleep(_POLL)

    def update(self, device_xml: str, *, live: bool) -> None:
        """Change a device in the stored definition, or with `live` in the running VM."""
        flag = libvirt.VIR_DOMAIN_AFFECT_LIVE if live else libvirt.VIR_DOMAIN_AFFECT_CONFIG
        with translated(f"changing a device of the VM {self.name}"):
            self.raw.updateDeviceFlags(device_xml, flag)

    def grow(self, target: str, capacity: int) -> None:
        """Grow a running VM's disk to `capacity` bytes. Raise Refused for a smaller size, since libvirt does not."""
        with translated("growing the disk"):
            if capacity < self.raw.blockInfo(target)[0]:
                raise Refused("a disk never shrinks")
            self.raw.blockResize(target, capacity, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def agent(self, command: str, limit: int = 5, **arguments: object) -> Any:  # noqa: ANN401 - any JSON
        """Send a command to the guest agent. Return its answer, None after `limit` seconds without a valid one."""
        import libvirt_qemu

        request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        try:
            return json.loads(libvirt_qemu.qemuAgentCommand(self.raw, request, limit, 0))["return"]
        except (libvirt.libvirtError, libvirt_qemu.libvirt.libvirtError):
            return None
        except (ValueError, KeyError, TypeError, RecursionError):  # the guest chooses what it says
            return None

    def screenshot(self) -> bytes:
        """Return the screen as a PPM image. Raise HypervisorError if the VM is not running."""
        with translated("taking a screenshot"):
            stream = self.raw.connect().newStream()
            self.raw.screenshot(stream, 0)
            target = io.BytesIO()
            stream.recvAll(lambda _stream, data, sink: sink.write(data), target)
            stream.finish()
        return target.getvalue()


class _NotRunning(Exception):
    pass


class Trial:
    """A temporary domain that shows whether a type of domain really starts."""

    @classmethod
    def starts(cls, connection: Libvirt, kind: str) -> bool:
        """Start and destroy a paused, diskless domain of type `kind`. Return True if it started.

        Its name is new each time: two domains cannot share one, so that another run's trial would look like a failure.
        """
        name = f"swarm-trial-{secrets.token_hex(8)}"
        system = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
        xml = f"<domain type='{kind}'><name>{name}</name><memory unit='MiB'>16</memory>{system}</domain>"
        try:
            raw = connection.raw.createXML(
                xml, libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
            )
            raw.destroy()
        except libvirt.libvirtError:
            return False
        return True
