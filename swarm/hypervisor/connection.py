"""A connection to libvirt that translates libvirt's errors."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import libvirt

from swarm.embedded import Embedded
from swarm.errors import HypervisorError, Refused, Unfit
from swarm.hypervisor.reasons import explain
from swarm.hypervisor.uri import ANSWER, EMBEDDED, NONE, remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

__all__ = ["ANSWER", "Libvirt", "found", "start", "translated"]

_silent: set[str] = set()  # the URIs that this process has waited for in vain


def found(lookup: Callable[..., Any], what: Any, missing: int) -> Any:  # noqa: ANN401 - libvirt's objects have no types
    """Return `lookup(what)`, or None if libvirt answers with the error code `missing`."""
    try:
        return lookup(what)
    except libvirt.libvirtError as error:
        if error.get_error_code() == missing:
            return None
        raise


def start(raw: Any) -> None:  # noqa: ANN401 - as above
    """Start a network or a pool unless it runs. Somebody else may start it at the same moment."""
    if not raw.isActive():
        try:
            raw.create()
        except libvirt.libvirtError:
            if not raw.isActive():
                raise


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn libvirt's errors into HypervisorError. `doing` is what is tried, such as "starting the VM"."""
    try:
        yield
    except libvirt.libvirtError as error:
        cause, hint = explain(str(error.get_error_message() or error))
        raise HypervisorError(f"{doing} failed: {cause}", hint) from error


class _Events(threading.Thread):
    """Libvirt's event loop. A connection needs it for keepalive and for events such as "device removed"."""

    _started = threading.Lock()
    _running = False

    @classmethod
    def ensure(cls) -> None:
        """Start the loop, once per process. It must be registered before the first connection opens."""
        with cls._started:
            if not cls._running:
                libvirt.registerErrorHandler(
                    lambda *_: None, None
                )  # libvirt would print every error to stderr
                libvirt.virEventRegisterDefaultImpl()
                cls(daemon=True).start()
                cls._running = True

    def run(self) -> None:
        while True:
            libvirt.virEventRunDefaultImpl()


class Libvirt:
    """An open connection. Given the host file's `hypervisor.uri`; an embedded hypervisor is started if necessary.

    With a `limit` in seconds, a hypervisor that is switched off costs no more than that, and only once per process.
    """

    def __init__(self, uri: str, embedded: Embedded | None = None, *, limit: float | None = None) -> None:
        _Events.ensure()
        if uri == NONE:
            raise Refused(
                "hypervisor.uri is none: swarm did not make this machine, so it has no VM to work on",
                "use the tools of the engine that made it",
            )
        self.embedded = (embedded or Embedded()) if uri == EMBEDDED else None
        self._use = contextlib.ExitStack()
        if self.embedded:
            self._use.enter_context(self.embedded.use())
        self.started = self.embedded.start() if self.embedded else False
        self._open = True
        self.uri = self.embedded.uri if self.embedded else uri
        try:
            with translated(f"connecting to {uri}"):
                self.raw = libvirt.open(self.uri) if limit is None else _within(limit, self.uri)
        except HypervisorError as error:
            raise Unfit(error.message, error.hint) from error

    @property
    def local(self) -> bool:
        """Whether the hypervisor's files are this machine's files."""
        return not remote(self.uri)

    def close(self) -> None:
        """Close the connection, if it is open. VMs keep running."""
        if self._open:
            self._open = False
            self.raw.close()
            self._use.close()

    def rest(self) -> bool:
        """Close the connection, and stop an embedded hypervisor that runs no VM and has no other user.

        Return True if it was stopped.
        """
        embedded = self.embedded
        self.close()
        if embedded is None:
            return False

        def idle() -> bool:
            raw = libvirt.open(embedded.uri)
            try:
                return not raw.listDomainsID()
            finally:
                raw.close()

        with translated("checking whether a VM still runs"):
            return embedded.stop_if(idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A hypervisor that was started for this connection alone does not stay.
        self.rest() if self.started else self.close()

    def domain_kinds(self) -> set[str]:
        """Return the domain types ("kvm", "qemu") that libvirt offers for x86_64."""
        import xml.etree.ElementTree as ET

        with translated("reading libvirt's capabilities"):
            tree = ET.fromstring(self.raw.getCapabilities())
        return {kind.get("type", "") for kind in tree.findall("./guest/arch[@name='x86_64']/domain")}

    def domain_capabilities(self, kind: str) -> str:
        """Return libvirt's domain capabilities for a q35 domain of type `kind`, as XML."""
        with translated("reading libvirt's domain capabilities"):
            return str(self.raw.getDomainCapabilities(None, "x86_64", "q35", kind, 0))


def _within(limit: float, uri: str) -> Any:  # noqa: ANN401 - libvirt's objects have no types
    """Return libvirt's connection to `uri`. Raise HypervisorError if there is none after `limit` seconds."""
    late = HypervisorError(
        f"connecting to {uri} failed: no answer for {limit:.0f} s", "is the hypervisor running?"
    )
    if uri in _silent:
        raise late
    opened = Future[Any]()

    def work() -> None:
        try:
            opened.set_result(libvirt.open(uri))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            opened.set_exception(error)

    # A daemon: libvirt can't be interrupted while it connects, and must not keep the program from ending.
    threading.Thread(target=work, daemon=True).start()
    try:
        return opened.result(limit)
    except TimeoutError:
        _silent.add(uri)
        raise late from None
