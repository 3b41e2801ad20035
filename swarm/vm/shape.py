"""Domain XML as comparable parts. Pure: XML in, dictionaries and sentences out.

libvirt fills a definition with defaults and reorders it, so that two texts of one domain never look alike. Here a domain
is a dictionary of parts (`vcpu`, `devices/disk[vda]`, …), each in an order-free form.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from dataclasses import dataclass

__all__ = ["FORM", "Difference", "differences", "hashes", "parts"]

# The way in which hashes are made; to be counted up whenever it changes, so that hashes of another version are not compared.
FORM = "1"

# What tells two devices of one kind apart, by the path of an attribute inside the device.
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
_NO_PART = {"metadata"}  # where the hashes are kept
# What libvirt fills in by itself; told only where it was stated.
_FILLED_IN = ("address", "alias", "@placement")

Leaves = dict[str, str]


@dataclass(frozen=True)
class Difference:
    """One part that is not as it should be: what it is and what it should be, in a few words."""

    part: str
    is_now: str | None
    wanted: str | None


def parts(xml: str) -> dict[str, ET.Element]:
    """Return the parts of a domain's XML by name; devices each on their own."""
    found: dict[str, ET.Element] = {}
    for child in ET.fromstring(xml):
        if child.tag == "devices":
            for device in sorted(
                child, key=lambda device: repr(_ordered(device))
            ):  # two that look alike are told apart by their content
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
    """Return a short hash of each part, the same for every order of elements and attributes."""
    return {
        name: hashlib.sha256(repr(_ordered(part)).encode()).hexdigest()[:12]
        for name, part in parts(xml).items()
    }


def differences(
    wanted_xml: str, actual_xml: str, spec: dict[str, str], have: dict[str, str]
) -> tuple[list[Difference], list[Difference]]:
    """Return what the host file changed, and what somebody else changed.

    `spec` and `have` are the hashes noted when swarm last defined the domain: of the XML it asked for, and of the XML that
    libvirt then held.
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
        [Difference(name, *_words(actual.get(name), wanted.get(name))) for name in ours],
        [Difference(name, *_words(actual.get(name), wanted.get(name))) for name in theirs],
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


def _words(actual: ET.Element | None, wanted: ET.Element | None) -> tuple[str | None, str | None]:
    """What differs between two forms of a part: only the leaves that we state and that are not so; else the whole."""
    is_now, should = (
        _leaves(actual) if actual is not None else {},
        _leaves(wanted) if wanted is not None else {},
    )
    off = [name for name, value in should.items() if is_now.get(name) != value] if actual is not None else []
    if wanted is not None and actual is not None and not off:  # something was added that we do not state
        off = [name for name in is_now if name not in should and not name.startswith(_FILLED_IN)]
    if off:
        return _text(is_now, off), _text(should, off)
    return _text(is_now, list(is_now)) if actual is not None else None, _text(
        should, list(should)
    ) if wanted is not None else None


def _text(leaves: Leaves, names: list[str]) -> str:
    words = []
    for name in names:
        value = leaves.get(name)
        if value is None:
            words.append(f"no {_label(name)}" if name else "nothing")
        else:
            words.append(f"{_label(name)} {value}" if name else value)
    return ", ".join(words) or "as libvirt made it"


def _label(name: str) -> str:
    return name.replace("@", " ").replace("/", " ").strip()
