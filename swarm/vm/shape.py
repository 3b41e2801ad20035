"""Compare domain XML part by part. Pure: no I/O.

libvirt adds defaults to a definition and reorders it, so the texts of one domain differ. Here a domain is a dictionary
of parts (`vcpu`, `devices/disk[vda]`, …), each in a form that does not depend on order.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from dataclasses import dataclass

__all__ = ["FORM", "Difference", "differences", "hashes", "parts"]

# The version of the hashes. Increase it whenever they are computed differently, so that versions are not compared.
FORM = "1"

# Paths of attributes that distinguish two devices of one kind, the most specific first.
_KEYS = ("@index", "target@dev", "mac@address", "target@dir", "target@name", "target@port", "@type", "@model")
_KIB = {
    "b": 1 / 1024,
    "bytes": 1 / 1024,
    "KiB": 1,
    "k": 1,
    "MiB": 1024,
    "M": 1024,
    "GiB": 1 << 20,
    "G": 1 << 20,
    "TiB": 1 << 30,
    "T": 1 << 30,
}
_MEMORY = {"memory", "currentMemory"}
_NO_PART = {"metadata"}  # the hashes themselves are stored there
# Attributes that libvirt adds; a difference in them alone is not described.
_FILLED_IN = ("address", "alias", "@placement")

Leaves = dict[str, str]


@dataclass(frozen=True)
class Difference:
    """One part that differs, with short descriptions of its present and its wanted form. None: it does not exist."""

    part: str
    is_now: str | None
    wanted: str | None


def parts(xml: str) -> dict[str, ET.Element]:
    """Return the parts of a domain's XML by name. Each device is a part."""
    found: dict[str, ET.Element] = {}
    for child in ET.fromstring(xml):
        if child.tag == "devices":
            for device in sorted(
                child, key=lambda device: repr(_ordered(device))
            ):  # two devices with the same name are ordered by their content
                name = f"devices/{device.tag}{_key(device)}"
                while name in found:
                    name += "'"
                found[name] = device
        elif child.tag not in _NO_PART:
            found[child.tag] = child
    root = ET.fromstring(xml)
    found["type"] = ET.Element("type", {"is": root.get("type", "")})
    return found


def hashes(xml: str) -> dict[str, str]:
    """Return a short hash of each part. It does not depend on the order of elements and attributes."""
    return {
        name: hashlib.sha256(repr(_ordered(part)).encode()).hexdigest()[:12]
        for name, part in parts(xml).items()
    }


def differences(
    wanted_xml: str, actual_xml: str, spec: dict[str, str], have: dict[str, str]
) -> tuple[list[Difference], list[Difference]]:
    """Return the parts that the host file changed, and the parts that were changed outside swarm.

    `spec` and `have` are the hashes recorded when swarm last defined the domain: of the XML that it asked for,
    and of the XML that libvirt made of it.
    """
    wanted, actual = parts(wanted_xml), parts(actual_xml)
    spec_now, have_now = hashes(wanted_xml), hashes(actual_xml)
    ours = [name for name in (*spec_now, *spec) if spec_now.get(name) != spec.get(name)]
    ours = list(dict.fromkeys(ours))
    theirs = [
        name
        for name in dict.fromkeys((*have_now, *have))
        if have_now.get(name) != have.get(name) and name not in ours
    ]
    return (
        [Difference(name, *_described(actual.get(name), wanted.get(name))) for name in ours],
        [Difference(name, *_described(actual.get(name), wanted.get(name))) for name in theirs],
    )


def _key(device: ET.Element) -> str:
    for key in _KEYS:
        path, _, attribute = key.partition("@")
        element = device.find(path) if path else device
        if element is not None and element.get(attribute):
            kind = f"{device.get('type')} " if device.tag == "controller" else ""
            return f"[{kind}{element.get(attribute)}]"
    return ""


def _ordered(element: ET.Element) -> tuple[object, ...]:
    attributes, text = _normal(element)
    return (
        element.tag,
        tuple(sorted(attributes.items())),
        text,
        tuple(sorted(map(_ordered, element), key=repr)),
    )


def _normal(element: ET.Element) -> tuple[dict[str, str], str]:
    attributes, text = dict(element.attrib), (element.text or "").strip()
    if element.tag in _MEMORY and text.isdigit() and (unit := _KIB.get(attributes.get("unit", "KiB"))):
        kib = int(int(text) * unit)
        return {}, f"{kib} KiB" if kib % 1024 else f"{kib // 1024} MiB"
    return attributes, text


def _leaves(element: ET.Element, prefix: str = "") -> Leaves:
    attributes, text = _normal(element)
    found = {f"{prefix}@{name}": value for name, value in attributes.items()}
    if text:
        found[prefix] = text
    for child in element:
        several = len(element.findall(child.tag)) > 1
        name = f"{child.tag}/{child.get('name')}" if several and child.get("name") else child.tag
        found |= _leaves(child, f"{prefix}/{name}" if prefix else name)
    return found


def _described(actual: ET.Element | None, wanted: ET.Element | None) -> tuple[str | None, str | None]:
    """Describe how two forms of a part differ: by the leaves that we state and that differ, or else as a whole."""
    is_now, should = (
        _leaves(actual) if actual is not None else {},
        _leaves(wanted) if wanted is not None else {},
    )
    off = [name for name, value in should.items() if is_now.get(name) != value] if actual is not None else []
    if wanted is not None and actual is not None and not off:  # only something that we do not state was added
        off = [name for name in is_now if name not in should and not name.startswith(_FILLED_IN)]
    if off:
        return _text(is_now, off), _text(should, off)
    return _text(is_now, list(is_now)) if actual is not None else None, _text(
        should, list(should)
    ) if wanted is not None else None


def _text(leaves: Leaves, names: list[str]) -> str:
    found = []
    for name in names:
        value = leaves.get(name)
        if value is None:
            found.append(f"no {_label(name)}" if name else "nothing")
        else:
            found.append(f"{_label(name)} {value}" if name else value)
    return ", ".join(found) or "as libvirt made it"


def _label(name: str) -> str:
    return name.replace("@", " ").replace("/", " ").strip()
