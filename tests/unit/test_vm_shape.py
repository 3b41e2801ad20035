"""Two texts of one domain are equal however libvirt orders them, and what differs is named."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.inventory import load
from swarm.vm import desired, shape
from swarm.vm.shape import Difference

if TYPE_CHECKING:
    import random

ZAP = desired.domain_xml(load("zap"), "qemu", "/pool/seed.iso")


def shuffled(element: ET.Element, order: random.Random) -> ET.Element:
    """Return a copy with the attributes and children of every element in another order."""
    names = list(element.attrib)
    order.shuffle(names)
    made = ET.Element(element.tag, {name: element.attrib[name] for name in names})
    made.text = element.text
    children = [shuffled(child, order) for child in element]
    order.shuffle(children)
    made.extend(children)
    return made


def text(element: ET.Element) -> str:
    """Return an element as XML."""
    return ET.tostring(element, encoding="unicode")


def changed(path: str, *, attribute: str | None = None, value: str | None = None) -> str:
    """Return zap's domain with one attribute or one text replaced."""
    root = ET.fromstring(ZAP)
    element = root.find(path)
    assert element is not None, path
    if attribute:
        element.set(attribute, value or "")
    else:
        element.text = value
    return text(root)


def compare(actual: str, wanted: str = ZAP) -> tuple[list[Difference], list[Difference]]:
    """Compare with a domain that swarm defined as ZAP and that libvirt held unchanged."""
    noted = shape.hashes(ZAP)
    return shape.differences(wanted, actual, noted, noted)


_devices = st.builds(
    lambda tag, attributes, target, inner: ET.fromstring(
        f"<{tag} {' '.join(f'{name}={value!r}' for name, value in attributes.items())}>"
        f"<target dev='{target}'/>{inner}</{tag}>"
    ),
    st.sampled_from(("disk", "channel", "hostdev")),
    st.dictionaries(st.sampled_from(("type", "mode", "index")), st.sampled_from(("a", "b", "c")), max_size=3),
    st.sampled_from(("vda", "vdb")),
    st.sampled_from(("", "<alias name='x'/>", "<driver name='q'/><driver name='r'/>", "text")),
)


@settings(max_examples=60, deadline=None)
@given(order=st.randoms(use_true_random=False), extra=st.lists(_devices, max_size=5))
def test_order_means_nothing(order: random.Random, extra: list[ET.Element]) -> None:
    """The order of elements and attributes does not matter, also with several similar devices."""
    root = ET.fromstring(ZAP)
    devices = root.find("devices")
    assert devices is not None
    devices.extend(extra)
    assert shape.hashes(text(shuffled(root, order))) == shape.hashes(text(root))


def leaves(root: ET.Element) -> list[tuple[ET.Element, str | None]]:
    """Return every attribute, and as None every text, with its element; a unit alone means nothing."""
    found: list[tuple[ET.Element, str | None]] = []
    for element in root.iter():
        if element.tag != "domain":
            found += [(element, name) for name in element.attrib if name != "unit"]
            found += [(element, None)] if (element.text or "").strip() else []
    return found


@given(
    leaf=st.sampled_from(range(len(leaves(ET.fromstring(ZAP))))),
    value=st.sampled_from(("other", "17", "nothing")),
)
def test_every_changed_leaf_is_found(leaf: int, value: str) -> None:
    """Any changed attribute or text is drift, and the description shows two different values."""
    tree = ET.fromstring(ZAP)
    element, name = leaves(tree)[leaf]
    if name is None:
        element.text = value
    else:
        element.set(name, value)
    ours, theirs = compare(text(tree))
    assert not ours
    assert theirs
    assert all(found.is_now != found.wanted for found in theirs)
    # A repeated element goes by its name: with another name it is missing.
    assert element.tag == "feature" or any(value in (found.is_now or "") for found in theirs)


FEATURE = "firmware feature"
KEYS, BOOT = f"{FEATURE} enrolled-keys enabled", f"{FEATURE} secure-boot enabled"
DISK = "/var/lib/libvirt/images/claw.qcow2"


@pytest.mark.parametrize(
    ("path", "attribute", "value", "part", "is_now", "wanted"),
    [
        ("vcpu", None, "8", "vcpu", "8", "2"),
        ("memory", None, "1024", "memory", "1024 MiB", "3072 MiB"),
        ("memory", "unit", "KiB", "memory", "3 MiB", "3072 MiB"),
        ("devices/disk[1]/source", "file", "/x", "devices/disk[vda]", "source file /x", f"source file {DISK}"),
        ("os/firmware/feature[1]", "enabled", "no", "os", f"{KEYS} no", f"{KEYS} yes"),
        ("os/firmware/feature[2]", "enabled", "no", "os", f"{BOOT} no", f"{BOOT} yes"),
        ("devices/watchdog", "action", "none", "devices/watchdog[i6300esb]", "action none", "action reset"),
        ("on_crash", None, "destroy", "on_crash", "destroy", "restart"),
        ("devices/rng/backend", None, "/r", "devices/rng[virtio]", "backend /r", "backend /dev/urandom"),
    ],
)  # fmt: skip
def test_a_change_is_named_by_its_leaf(
    path: str, attribute: str | None, value: str, part: str, is_now: str, wanted: str
) -> None:
    """A change is described by its part and the one leaf that differs, not by the whole device."""
    assert compare(changed(path, attribute=attribute, value=value)) == (
        [],
        [Difference(part, is_now, wanted)],
    )


def test_what_the_host_file_changed_is_ours() -> None:
    """What differs from the recorded definition was changed by the host file, whatever libvirt made of it."""
    wanted = changed("vcpu", value="4")
    assert compare(ZAP, wanted=wanted) == ([Difference("vcpu", "2", "4")], [])


def test_a_device_that_came_and_one_that_went() -> None:
    """An added device has no wanted form, a removed one no present form."""
    root = ET.fromstring(ZAP)
    devices = root.find("devices")
    assert devices is not None
    watchdog = devices.find("watchdog")
    assert watchdog is not None
    devices.remove(watchdog)
    ET.SubElement(devices, "sound", {"model": "ich9"})
    assert compare(text(root)) == (
        [],
        [
            Difference("devices/sound[ich9]", "model ich9", None),
            Difference("devices/watchdog[i6300esb]", None, "model i6300esb, action reset"),
        ],
    )


def test_fewer_processors_at_the_start_are_drift() -> None:
    """`virsh setvcpus --config` writes the attribute `current`, which swarm never writes: it is found."""
    assert compare(changed("vcpu", attribute="current", value="1")) == (
        [],
        [Difference("vcpu", "current 1", "no current")],
    )


def test_less_memory_at_the_start_is_drift() -> None:
    """`virsh setmem --config` writes currentMemory, which swarm never writes: it is found nevertheless."""
    balloon = ZAP.replace("</memory>", "</memory><currentMemory unit='KiB'>524288</currentMemory>")
    assert compare(balloon) == ([], [Difference("currentMemory", "512 MiB", None)])


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("3072", "MiB"),
        ("3072", "M"),
        ("3", "GiB"),
        ("3", "G"),
        ("3145728", "KiB"),
        ("3145728", "k"),
        ("3221225472", "bytes"),
    ],
)
def test_units_of_memory_are_one_amount(value: str, unit: str) -> None:
    """The same amount of memory in another unit is no difference."""
    root = ET.fromstring(changed("memory", attribute="unit", value=unit))
    memory = root.find("memory")
    assert memory is not None
    memory.text = value
    assert compare(text(root)) == ([], [])


def test_swarms_own_note_is_no_part() -> None:
    """The metadata, where the hashes themselves are kept, take no part in the comparison."""
    noted = ZAP.replace("</title>", "</title><metadata><x xmlns='urn:x'>1</x></metadata>")
    assert shape.hashes(noted) == shape.hashes(ZAP)


@given(kind=st.sampled_from(("kvm", "qemu", "test")))
def test_the_domains_type_is_a_part(kind: str) -> None:
    """KVM or emulation is part of the definition."""
    root = copy.deepcopy(ET.fromstring(ZAP))
    root.set("type", kind)
    _, theirs = compare(text(root))
    assert theirs == ([] if kind == "qemu" else [Difference("type", f"is {kind}", "is qemu")])
