"""The types of a host file's values. Each type refuses an invalid value with a message and a hint."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from swarm.errors import Unfit
from swarm.paths import shares_dir

__all__ = [
    "GIB",
    "Address",
    "DiskPath",
    "DiskSize",
    "Domain",
    "Fingerprint",
    "Folder",
    "Group",
    "Hostname",
    "Label",
    "Mac",
    "MachineAddress",
    "Memory",
    "MountPoint",
    "Name",
    "NetworkName",
    "SshKey",
    "Tag",
    "as_text",
    "size",
    "wrong",
]

GIB = 1 << 30

# A name becomes part of file names and of Invoke's command line, where "all" means every host.
NAME = re.compile(r"(?!all$)[a-z0-9][a-z0-9_-]{0,31}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # one label of RFC 1123
_DNS = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
# As ssh-keygen -l shows it: base64 of 32 bytes, without padding.
_SHA256 = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
# QEMU's prefix for locally administered addresses. libvirt and virt-install generate MACs with it.
_MAC = re.compile(r"52:54:00(:[0-9a-f]{2}){3}")
_SIZE = re.compile(r"([1-9][0-9]{0,6}) ?([GgTt])(iB)?")
# With clusters of 64 KiB, a qcow2 file has up to 4 Mi first-level entries of 512 MiB each (QCOW_MAX_L1_SIZE in QEMU's
# block/qcow2.h).
_QCOW2_LIMIT = 2048 * 1024 * GIB
_TAG = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,35}"
)  # 36 bytes: the size of the tag field (VIRTIO specification, 5.11.4)
_TARGET = re.compile(r"(/[^\s/\\]+)+")  # fstab separates fields by white space, and \ starts an octal escape
_SYSTEM = {
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",  # noqa: S108 - a forbidden mount point
    "/usr",
    "/var",
}
# Each type of public key with the number of fields in its data: RFC 4253 (6.6), RFC 5656 (3.1), RFC 8709 (4) and
# OpenSSH's PROTOCOL.u2f.
_KEY_PARTS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}

# Bytes in a domain's name: a file name can have 255, and libvirt appends "_VARS.fd", ".xml.new" and the like.
_LONGEST_NAME = 200
_GIB_MEANT = 256  # a memory_mib up to this value was probably meant in GiB


def wrong(message: str, hint: str | None = None) -> PydanticCustomError:
    """Return an error that passes a message and a hint through pydantic."""
    return PydanticCustomError("wrong", "{message}", {"message": message, "hint": hint})


def _printable(value: str) -> str:
    if not value.isprintable():
        raise wrong("expected text without line breaks, tabs or other invisible characters")
    return value


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise wrong(
            "expected at most 32 lowercase letters, digits, hyphens and _, "
            "and not the word 'all', which means every host"
        )
    return value


def _group(value: str) -> str:
    if not NAME.fullmatch(value):
        raise wrong(
            "expected at most 32 lowercase letters, digits, hyphens and _, and not the word 'all'",
            "write it without the @ that --host needs" if value.startswith("@") else None,
        )
    return value


def _domain(value: str) -> str:
    """Check the name: libvirt refuses slashes and line breaks, and swtpm_setup splits its arguments at commas."""
    if not value or value != value.strip() or value in {".", ".."}:
        raise wrong("expected a domain name other than '.' and '..', without leading or trailing spaces")
    for bad, who in (("/", "libvirt"), (",", "swtpm")):
        if bad in value:
            raise wrong(f"{who} does not allow {bad!r} in a domain name")
    if not value.isprintable():
        raise wrong("libvirt does not allow line breaks, tabs or other invisible characters in a domain name")
    if len(value.encode()) > _LONGEST_NAME:
        raise wrong("expected a domain name of at most 200 bytes, because libvirt names files after it")
    return value


def _hostname(value: str) -> str:
    if not _HOSTNAME.fullmatch(value):
        raise wrong("expected at most 63 lowercase letters, digits and inner hyphens")
    return value


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise wrong("expected a name of letters, digits, dots, hyphens, + and _")
    return value


def _network(value: str) -> str:
    if not value or value != value.strip() or "/" in value or not value.isprintable():
        raise wrong(
            "expected the name of a libvirt network, without '/' or invisible characters",
            "run virsh net-list --all to list the networks",
        )
    return value


def _mac(value: str) -> str:
    mac, example = value.lower(), "such as 52:54:00:01:00:71"
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        raise wrong(f"expected six pairs of hexadecimal digits separated by colons, {example}")
    if int(mac[:2], 16) & 1:  # the group bit of IEEE 802
        raise wrong(f"{mac} is a multicast address; expected one that starts with 52:54:00, {example}")
    if not _MAC.fullmatch(mac):
        raise wrong(f"expected a MAC address that starts with 52:54:00, QEMU's prefix, {example}")
    return mac


def _address(value: object) -> object:
    try:
        ip = ipaddress.IPv4Address(value if isinstance(value, (str, ipaddress.IPv4Address)) else "")
    except ValueError:
        hint = f"remove {value[value.index('/') :]}" if isinstance(value, str) and "/" in value else None
        raise wrong("expected an IPv4 address, such as 192.168.122.182", hint) from None
    if ip.is_multicast or ip.is_loopback or ip.is_unspecified or ip.is_reserved or ip.is_link_local:
        raise wrong(f"{ip} cannot be assigned to a machine; expected an address such as 192.168.122.182")
    return value  # pydantic converts it


def _machine(value: str) -> str:
    """Check an address or a name, which becomes an argument of ssh and a value in its configuration."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(value) and "%" not in value:  # a zone, as in fe80::1%eth0, may be any text
            return value
    if not _DNS.fullmatch(value) or re.fullmatch(r"[0-9.]+", value):
        raise wrong(
            "expected an IP address or a DNS name in lowercase, such as 203.0.113.7 or claw.example.org"
        )
    return value


def _fingerprint(value: str) -> str:
    if not _SHA256.fullmatch(value):
        raise wrong(
            "expected the SHA-256 fingerprint of an ed25519 host key: SHA256: and 43 characters",
            "on the machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    return value


def _memory(value: int) -> int:
    if value < 512:  # noqa: PLR2004 - with less, the kernel kills Ubuntu's installer and npm
        hint = f"the unit is MiB; for {value} GiB, write {value * 1024}" if 0 < value <= _GIB_MEANT else None
        raise wrong(f"expected at least 512 MiB, found {value}", hint)
    if value > 4 << 20:
        raise wrong("expected at most 4194304 MiB (4 TiB)")
    return value


def _size(value: object) -> object:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        number = int(match[1]) * GIB * (1024 if match[2] in "Tt" else 1)
        if number > _QCOW2_LIMIT:
            raise wrong("expected at most 2048T, the largest qcow2 image")
        return number
    hint = None
    if isinstance(value, (int, str)) and (
        match := re.fullmatch(r"([1-9][0-9]{0,15}) ?([GgTt]?)[Bb]?", str(value))
    ):
        number = int(match[1])
        # A large number without a unit was probably meant in bytes, the unit of other tools.
        hint = f"did you mean {size(number) if number >= GIB else match[1] + (match[2].upper() or 'G')}?"
    raise wrong("expected a size in GiB or TiB with a unit, such as 60G or 1T", hint)


def size(value: int) -> str:
    """Format a number of bytes for a host file, rounded up to whole GiB: 60G, 1T."""
    gib = -(-value // GIB)
    return f"{gib}G" if gib % 1024 else f"{gib // 1024}T"


def _absolute(value: PurePosixPath) -> PurePosixPath:
    _printable(str(value))
    if not value.is_absolute() or ".." in value.parts:
        raise wrong("expected an absolute path without '..'")
    return PurePosixPath(
        "/", *value.parts[1:]
    )  # pathlib keeps a leading //, whose meaning POSIX does not define


def _disk(value: PurePosixPath) -> PurePosixPath:
    value = _absolute(value)
    if value.suffix != ".qcow2":
        raise wrong("expected a file name that ends in .qcow2, because the disk is a qcow2 overlay")
    if len(value.parts) < 3:  # noqa: PLR2004 - the root, a directory and the file
        raise wrong(
            "expected a file in a directory other than /, because the directory becomes a libvirt pool",
            "use for example /var/lib/libvirt/images/zap.qcow2",
        )
    return value


def _target(value: PurePosixPath) -> PurePosixPath:
    value = _absolute(value)
    text = str(value)
    if text == "/" or text in _SYSTEM or text.startswith(("/proc/", "/sys/", "/dev/")):
        raise wrong(
            f"a share mounted at {text} would hide the guest's own files", "use for example /mnt/swarm"
        )
    if not _TARGET.fullmatch(text):
        raise wrong("expected a path without spaces or backslashes, which are special characters in fstab")
    return value


def _folder(value: Path) -> Path:
    _printable(str(value))
    try:
        value = value.expanduser()
    except RuntimeError:
        raise wrong(f"cannot expand {value.parts[0]}: there is no user of that name") from None
    if value.is_absolute():
        return value
    try:
        return shares_dir() / value
    except Unfit as error:
        raise wrong(error.message, error.hint) from None


def _tag(value: str) -> str:
    if not _TAG.fullmatch(value):
        raise wrong(
            "expected at most 36 letters, digits, dots, hyphens and _, starting with a letter, a digit or _"
        )
    return value


def _ssh_key(value: str) -> str:
    value = value.strip()
    if "PRIVATE KEY" in value:
        raise wrong(
            "expected a public key, found a private key",
            "copy the content of the .pub file",
        )
    parts = value.split(maxsplit=2)
    if not value.isprintable() or len(parts) < 2 or parts[0] not in _KEY_PARTS:  # noqa: PLR2004 - type and key
        raise wrong(
            "expected one SSH public key, such as 'ssh-ed25519 AAAA… name'",
            f"supported types: {', '.join(_KEY_PARTS)}",
        )
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except ValueError:
        blob = b""
    # Each field is preceded by its length in four bytes. The first field repeats the type.
    found, rest = [], blob
    while len(rest) >= 4:  # noqa: PLR2004 - the four bytes of a length
        end = 4 + int.from_bytes(rest[:4], "big")
        if end > len(rest):
            break
        found.append(rest[4:end])
        rest = rest[end:]
    if rest or len(found) != _KEY_PARTS[parts[0]] or found[0] != parts[0].encode():
        raise wrong("the SSH public key is damaged or truncated", "copy the whole line of the .pub file")
    return value


def as_text(pattern: str, **more: Any) -> WithJsonSchema:
    """Return the JSON Schema of a string that must match `pattern` as a whole.

    Editors use ECMAScript's regular expressions, in which a hyphen outside brackets must not be escaped.
    """
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", **more})


Name = Annotated[str, AfterValidator(_name)]
Group = Annotated[str, AfterValidator(_group), as_text(NAME.pattern)]
MachineAddress = Annotated[str, AfterValidator(_machine)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint), as_text(_SHA256.pattern)]
NetworkName = Annotated[str, AfterValidator(_network), as_text(r"[^\s/]([^/]*[^\s/])?")]
Label = Annotated[str, AfterValidator(_label), as_text(_LABEL.pattern)]
Domain = Annotated[str, AfterValidator(_domain), as_text(r"[^\s/,]([^/,]*[^\s/,])?", maxLength=200)]
Hostname = Annotated[str, AfterValidator(_hostname), as_text(_HOSTNAME.pattern)]
Mac = Annotated[str, AfterValidator(_mac), as_text(_MAC.pattern.replace("a-f", "A-Fa-f"))]
Address = Annotated[
    ipaddress.IPv4Address, BeforeValidator(_address), WithJsonSchema({"type": "string", "format": "ipv4"})
]
Memory = Annotated[
    int, AfterValidator(_memory), WithJsonSchema({"type": "integer", "minimum": 512, "maximum": 4 << 20})
]
DiskSize = Annotated[
    int, BeforeValidator(_size), PlainSerializer(size, when_used="json"), as_text(_SIZE.pattern)
]
DiskPath = Annotated[PurePosixPath, AfterValidator(_disk), as_text(r"/.+/[^/]+\.qcow2")]
MountPoint = Annotated[PurePosixPath, AfterValidator(_target), as_text(_TARGET.pattern)]
Folder = Annotated[Path, AfterValidator(_folder), as_text(r".+")]
Tag = Annotated[str, AfterValidator(_tag), as_text(_TAG.pattern)]
SshKey = Annotated[
    str, AfterValidator(_ssh_key), as_text(rf"\s*({'|'.join(_KEY_PARTS).replace('.', '[.]')})\s.*")
]
