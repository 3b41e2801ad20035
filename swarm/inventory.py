"""Host files: hosts/NAME.yaml in, frozen `Host` out, or one sentence that names file, line and field.

The YAML is read as YAML 1.2 (so a MAC address like 52:54:00:01:00:11 stays text and is not a number in base 60),
and each value keeps its line, so that an error points at it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from swarm.errors import InventoryError
from swarm.paths import ROOT, hosts_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "EMBEDDED",
    "GIB",
    "Guest",
    "Host",
    "Hypervisor",
    "NetworkFacts",
    "Openclaw",
    "Virtiofs",
    "Vm",
    "check_disk",
    "check_network",
    "cross_check",
    "json_schema",
    "load",
    "load_all",
    "locate",
    "names",
]

EMBEDDED = "embedded"
GIB = 1 << 30

# QEMU's own prefix for locally administered addresses; every tool of this field hands out MACs from it.
_MAC = re.compile(r"52:54:00(:[0-9a-f]{2}){3}")
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # one label of RFC 1123
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_SIZE = re.compile(r"(?P<number>[1-9][0-9]*) ?(?P<unit>[GT])(iB|B)?", re.IGNORECASE)
_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")


def _domain(value: str) -> str:
    """libvirt refuses a slash and control characters in a domain's name, and swtpm_setup splits its arguments at commas."""
    if not value.strip() or value != value.strip() or value in {".", ".."}:
        raise ValueError("a domain name must not be empty, '.' or '..', nor begin or end with a space")
    for bad, who in (("/", "libvirt"), (",", "swtpm")):
        if bad in value:
            raise ValueError(f"{who} refuses a domain name with {bad!r} in it")
    if not value.isprintable():
        raise ValueError("libvirt refuses a domain name with control characters in it")
    if len(value.encode()) > 200:  # noqa: PLR2004 - a file name holds 255 bytes, and libvirt appends "_VARS.fd", ".pid" and the like
        raise ValueError("a domain name may be at most 200 bytes long, since libvirt names files after it")
    return value


def _mac(value: str) -> str:
    value = value.lower()
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", value):
        raise ValueError("expected six pairs of hexadecimal digits with colons between them, like 52:54:00:01:00:71")
    if int(value[:2], 16) & 1:
        raise ValueError("this is a multicast address; expected one that begins with 52:54:00, like 52:54:00:01:00:71")
    if not _MAC.fullmatch(value):
        raise ValueError("expected a MAC address that begins with 52:54:00 (QEMU's prefix), like 52:54:00:01:00:71")
    return value


def _hostname(value: str) -> str:
    if not _HOSTNAME.fullmatch(value):
        raise ValueError("expected lower-case letters, digits and inner hyphens, at most 63 of them")
    return value


def _size(value: object) -> object:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return int(match["number"]) * GIB * (1024 if match["unit"].upper() == "T" else 1)
    raise ValueError("expected a size in GiB or TiB with its unit, like 60G or 1T")


def _absolute(value: PurePosixPath) -> PurePosixPath:
    if not value.is_absolute() or ".." in value.parts:
        raise ValueError("expected an absolute path without '..'")
    return value


def _ssh_key(value: str) -> str:
    parts = value.split()
    if "PRIVATE KEY" in value:
        raise ValueError("this is a private key; expected a public key, the content of a .pub file")
    if len(parts) < 2 or parts[0] not in _KEY_TYPES or "\n" in value:  # noqa: PLR2004 - type and key
        raise ValueError("expected one SSH public key, like 'ssh-ed25519 AAAA… name'")
    return value


def _share(value: Path) -> Path:
    value = value.expanduser()
    return value if value.is_absolute() else ROOT / value


Name = Annotated[str, Field(min_length=1)]
Bytes = Annotated[int, BeforeValidator(_size), Field(gt=0, json_schema_extra={"type": "string", "pattern": _SIZE.pattern, "exclusiveMinimum": None})]
AbsolutePath = Annotated[PurePosixPath, AfterValidator(_absolute)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, hide_input_in_errors=True)


class Hypervisor(_Part):
    """Where the VM lives."""

    uri: str = Field("qemu:///system", description="libvirt's address: qemu:///system, qemu+ssh://user@box/system, or 'embedded' for swarm's own private libvirt.")
    network: str = Field("default", description="The libvirt network that the VM is plugged into; it must hand out addresses by DHCP.")
    acceleration: Literal["auto", "kvm", "emulation"] = Field("auto", description="'auto' takes KVM where it truly works.")

    @model_validator(mode="after")
    def _known_scheme(self) -> Hypervisor:
        if self.uri != EMBEDDED and not re.match(r"(qemu(\+\w+)?|test)://", self.uri):
            raise ValueError("uri: expected 'embedded', or a libvirt address like qemu:///system or qemu+ssh://root@box/system")
        return self


class Virtiofs(_Part):
    """A folder of the hypervisor that the guest sees."""

    source: Annotated[Path, AfterValidator(_share)] = Field(description="The folder on the hypervisor; ~ is your home, a relative path starts at the project's folder.")
    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,36}$")] = Field(description="The name under which the guest finds it (virtio-fs allows 36 bytes).")
    target: AbsolutePath = Field(description="Where the guest mounts it.")


class Vm(_Part):
    """The virtual machine."""

    domain: Annotated[str, AfterValidator(_domain)] = Field(description="The libvirt domain's name; spaces and brackets are fine.")
    hostname: Annotated[str, AfterValidator(_hostname)] = Field(description="The guest's host name.")
    image: Name = Field("ubuntu-24.04", description="A name of the image catalogue; `inv images` lists them.")
    memory_mib: Annotated[int, Field(ge=512, le=4 << 20)] = Field(description="Memory in MiB.")
    vcpus: Annotated[int, Field(ge=1, le=512)] = Field(description="Virtual processors.")
    disk_path: AbsolutePath = Field(description="The root disk on the hypervisor, a .qcow2 file in a folder that is, or becomes, a libvirt pool.")
    disk_size: Bytes = Field(description="The root disk's size with its unit: 60G. It may grow later, never shrink.")
    mac: Annotated[str, AfterValidator(_mac)] = Field(description="The network card's address, beginning with 52:54:00.")
    ip: ipaddress.IPv4Address = Field(description="The address that libvirt's DHCP server reserves for the VM.")
    virtiofs: Virtiofs | None = Field(None, description="A shared folder; leave it out for none.")
    autostart: bool = Field(default=True, description="Start the VM with its hypervisor.")

    @model_validator(mode="after")
    def _qcow2(self) -> Vm:
        if self.disk_path.suffix != ".qcow2":
            raise ValueError("disk_path: expected a file name that ends in .qcow2, since the disk is a qcow2 overlay")
        return self


class Guest(_Part):
    """Settings inside the guest."""

    swappiness: Annotated[int, Field(ge=0, le=200)] = Field(10, description="vm.swappiness, 0 to 200.")


class Openclaw(_Part):
    """OpenClaw in the guest."""

    install_mode: Literal["release", "development"] = Field("release", description="'release' installs the npm package, 'development' builds a git checkout.")
    ssh_keys: tuple[Annotated[str, AfterValidator(_ssh_key)], ...] = Field((), description="Public keys that may log in as root and openclaw; with none, swarm makes a key of its own.")


class Host(_Part):
    """One VM, as its host file states it."""

    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")] = Field(description="The file's name without .yaml.")
    hypervisor: Hypervisor = Hypervisor()  # type: ignore[call-arg]
    vm: Vm
    guest: Guest = Guest()  # type: ignore[call-arg]
    openclaw: Openclaw = Openclaw()  # type: ignore[call-arg]

    @property
    def known_hosts(self) -> Path:
        """The file that pins this guest's SSH host key."""
        return hosts_dir() / f"{self.name}.known_hosts"


def names() -> list[str]:
    """Return the names of all host files, sorted."""
    return sorted(path.stem for path in hosts_dir().glob("*.yaml"))


def load(name: str) -> Host:
    """Return the host called `name`. Raise InventoryError if there is no such file or it is wrong in any way."""
    path = hosts_dir() / f"{name}.yaml"
    if not _NAME.fullmatch(name) or not path.is_file():
        near = get_close_matches(name, names(), n=1, cutoff=0.4)
        known = ", ".join(names()) or "none yet"
        raise InventoryError(f"there is no host {name!r}: {_short(path)} does not exist", f"did you mean {near[0]}?" if near else f"known hosts: {known}")
    return _parse(path)


def load_all() -> list[Host]:
    """Return every host, sorted by name. Raise InventoryError at the first wrong file or at a clash between two."""
    hosts = [load(name) for name in names()]
    cross_check(hosts)
    return hosts


def cross_check(hosts: Iterable[Host]) -> None:
    """Raise InventoryError if two hosts of one hypervisor claim the same ip, mac, domain, hostname or disk."""
    seen: dict[tuple[str, str, str], Host] = {}
    for host in hosts:
        for field in ("ip", "mac", "domain", "disk_path"):
            value = str(getattr(host.vm, field))
            first = seen.setdefault((host.hypervisor.uri, field, value), host)
            if first is not host:
                path = hosts_dir() / f"{host.name}.yaml"
                raise InventoryError(f"{_at(path, ('vm', field))} vm.{field}: {value} belongs to host {first.name} already", f"give {host.name} one of its own")


@dataclass(frozen=True)
class NetworkFacts:
    """What a libvirt network is and whom its DHCP server knows, as observed.

    `dynamic_range` is the first and last address that the server gives to anybody, or None; `reservations` maps a MAC to
    the address kept for it; `leases` maps an address to the MAC that holds it now.
    """

    name: str
    subnet: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address
    dynamic_range: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None = None
    reservations: Mapping[str, ipaddress.IPv4Address] = field(default_factory=dict)
    leases: Mapping[ipaddress.IPv4Address, str] = field(default_factory=dict)

    def owner(self, ip: ipaddress.IPv4Address) -> tuple[str, str] | None:
        """Return ("reserved for" or "leased to", MAC) of the machine that `ip` belongs to, or None."""
        for mac, reserved in self.reservations.items():
            if reserved == ip:
                return "reserved for", mac.lower()
        return ("leased to", self.leases[ip].lower()) if ip in self.leases else None

    def free(self) -> ipaddress.IPv4Address | None:
        """Return the lowest address that nobody holds, or None."""
        return next((ip for ip in self.subnet.hosts() if ip != self.gateway and not self.owner(ip)), None)


def check_network(host: Host, network: NetworkFacts) -> None:
    """Raise InventoryError if the host's address cannot be reserved for it in `network`.

    An address inside the dynamic range is fine: dnsmasq gives a reserved address to nobody else.
    """
    ip, subnet = host.vm.ip, network.subnet
    owner = network.owner(ip)
    if ip not in subnet:
        problem = f"is outside the network {network.name}, {subnet}"
    elif ip == subnet.network_address:
        problem = f"is the address of the network {network.name} itself"
    elif ip == subnet.broadcast_address:
        problem = f"is the broadcast address of the network {network.name}"
    elif ip == network.gateway:
        problem = f"is the gateway of the network {network.name}"
    elif owner and owner[1] != host.vm.mac:
        problem = f"is {owner[0]} {owner[1]} in the network {network.name}"
    else:
        return
    free = network.free()
    raise InventoryError(f"{locate(host.name, 'vm', 'ip')} vm.ip: {ip} {problem}", f"{free} is free" if free else "the network has no free address")


def check_disk(host: Host, current_bytes: int | None) -> None:
    """Raise InventoryError if the root disk, now `current_bytes` large (None: there is none yet), would have to shrink."""
    if current_bytes is None or current_bytes <= host.vm.disk_size:
        return
    keep = -(-current_bytes // GIB)
    raise InventoryError(
        f"{locate(host.name, 'vm', 'disk_size')} vm.disk_size: the disk is {keep}G large already, and shrinking it to {host.vm.disk_size // GIB}G would cut off data",
        f"write {keep}G, or destroy the VM and provision it anew",
    )


def locate(name: str, *fields: str) -> str:
    """Return "hosts/NAME.yaml:LINE:", the place of a field (like "vm", "ip") or of the section that lacks it."""
    path = hosts_dir() / f"{name}.yaml"
    try:
        return _at(path, fields)
    except (YAMLError, UnicodeDecodeError, OSError):
        return f"{_short(path)}:1:"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a host file, for editors that check YAML while it is typed."""
    schema = Host.model_json_schema()
    schema["properties"].pop("name")  # the file's name says it
    schema["required"].remove("name")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _parse(path: Path) -> Host:
    tree = _read(path)
    try:
        return Host.model_validate({**tree, "name": path.stem})
    except ValidationError as error:
        raise _explain(path, error) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = YAML().load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = (error.problem or "not YAML").split("\n")[0]
        raise InventoryError(f"{_short(path)}:{line}: not readable as YAML: {problem}", "check the indentation and the quotes of this line and the one above") from None
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise InventoryError(f"{_short(path)}: not readable: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise InventoryError(f"{_short(path)}:1: expected a mapping with the keys hypervisor, vm, guest and openclaw", "hosts/demo.yaml is a short example")
    if "name" in tree:
        raise InventoryError(f"{_at(path, ('name',))} name: unknown key: the file's name is the host's name", "remove the line")
    return tree


def _explain(path: Path, error: ValidationError) -> InventoryError:
    """The first problem as one sentence: file, line, field, what was expected."""
    first = error.errors()[0]
    where = tuple(part for part in first["loc"] if part not in {"function-after", "function-before"})
    message = str(first["msg"]).removeprefix("Value error, ")
    hint = None
    if match := re.fullmatch(r"(\w+): (.*)", message):  # a check over a whole section names its field itself
        where, message = (*where, match[1]), match[2]
    field = ".".join(str(part) for part in where)
    if first["type"] == "extra_forbidden":
        near = get_close_matches(str(where[-1]), _keys(where[:-1]), n=1)
        message = "unknown key"
        hint = f"did you mean {near[0]}?" if near else f"known keys here: {', '.join(_keys(where[:-1]))}"
    elif first["type"] == "missing":
        message, hint = "this key is missing", "hosts/zap.yaml shows every key"
    elif first["type"].startswith(("int_", "bool_", "string_type", "model_type", "tuple_type", "ip_")):
        message = f"expected {_wanted(first['type'])}"
    else:
        message = message[0].lower() + message[1:]
    return InventoryError(f"{_at(path, where)} {field}: {message}", hint)


def _wanted(kind: str) -> str:
    table = {"int": "a whole number", "bool": "true or false", "string": "text", "model": "a section with keys of its own", "tuple": "a list", "ip": "an IPv4 address, like 192.168.122.182"}
    return table[kind.split("_")[0]]


def _keys(where: tuple[Any, ...]) -> list[str]:
    """The keys that the model knows in the section `where`."""
    model: Any = Host
    for part in where:
        field = model.model_fields.get(part)
        kinds = [kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        model = kinds[0]
    return [key for key in model.model_fields if not (model is Host and key == "name")]


def _at(path: Path, where: tuple[Any, ...]) -> str:
    """`file:line:` of the deepest part of `where` that the file holds."""
    node, line = _read_quietly(path), 1
    for part in where:
        if not hasattr(node, "lc") or not (part in node if isinstance(node, dict) else isinstance(part, int) and part < len(node)):
            break
        line = (node.lc.key(part)[0] if isinstance(node, dict) else node.lc.item(part)[0]) + 1
        node = node[part]
    return f"{_short(path)}:{line}:"


def _read_quietly(path: Path) -> Any:  # noqa: ANN401 - a YAML tree is anything
    return YAML().load(path.read_text(encoding="utf-8"))


def _short(path: Path) -> str:
    return f"hosts/{path.name}" if path.parent == ROOT / "hosts" else str(path)
