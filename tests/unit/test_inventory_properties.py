"""Property tests of host files."""

from __future__ import annotations

import base64
import io
import re
import string
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from swarm import inventory
from swarm.errors import InventoryError
from swarm.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address
    from pathlib import Path

ZAP = (ROOT / "hosts" / "zap.yaml").read_text(encoding="utf-8")
SCHEMA = jsonschema.Draft202012Validator(inventory.json_schema(), format_checker=jsonschema.FormatChecker())

# Each example rewrites the same small file, so the examples can share the directory.
often = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def visible(less: str = "", more: str = " ") -> st.SearchStrategy[str]:
    """Generate visible characters and those in `more`, without those in `less`."""
    return st.characters(
        codec="utf-8", exclude_categories=["C", "Z"], include_characters=more, exclude_characters=less
    )


texts = st.text(visible(), min_size=1, max_size=40).map(str.strip).filter(bool)
domains = (
    st.text(visible("/,"), min_size=1, max_size=50)
    .map(str.strip)
    .filter(lambda text: text not in {"", ".", ".."})
)
macs = st.from_regex(r"52:54:00(:[0-9a-fA-F]{2}){3}", fullmatch=True)
addresses = st.sampled_from(
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.51.100.0/24", "8.0.0.0/8"]
).flatmap(lambda network: st.ip_addresses(v=4, network=network))
names = st.text(visible("/\\", ""), min_size=1, max_size=20).filter(lambda text: text not in {".", ".."})
paths = st.lists(names, min_size=2, max_size=4).map("/".join)


@st.composite
def ssh_keys(draw: st.DrawFn) -> str:
    """Generate an ed25519 public key in the format of ssh-keygen, with or without a comment."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + draw(st.binary(min_size=32, max_size=32))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {draw(st.just('') | names)}".strip()


shares = st.fixed_dictionaries(
    {
        "source": texts.filter(lambda text: not text.startswith("~")),
        "tag": st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,35}", fullmatch=True),
        "target": paths.map("/mnt/{}".format),
    }
)
vms = st.fixed_dictionaries(
    {
        "domain": domains,
        "hostname": st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True),
        "memory_mib": st.integers(512, 4 << 20),
        "vcpus": st.integers(1, 255),
        "disk_path": paths.map("/{}.qcow2".format),
        "disk_size": st.from_regex(r"[1-9][0-9]{0,2} ?([GgTt])(iB)?", fullmatch=True),
        "mac": macs,
        "ip": addresses.map(str),
    },
    optional={
        "image": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", fullmatch=True),
        "autostart": st.booleans(),
        "virtiofs": st.none() | shares,
    },
)
hypervisors = st.fixed_dictionaries(
    {},
    optional={
        "uri": st.sampled_from(["embedded", "qemu:///system", "test:///default"]),
        "network": domains,
        "acceleration": st.sampled_from(["auto", "kvm", "emulation"]),
    },
)
openclaws = st.fixed_dictionaries(
    {},
    optional={
        "install_mode": st.sampled_from(["release", "development"]),
        "ssh_keys": st.lists(ssh_keys(), max_size=3),
    },
)
guests = st.fixed_dictionaries({}, optional={"swappiness": st.integers(0, 200)})
trees = st.fixed_dictionaries(
    {"vm": vms}, optional={"hypervisor": hypervisors, "guest": guests, "openclaw": openclaws}
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
slips = st.text(max_size=8) | st.sampled_from(
    ["\n", "\t", ": ", "[", '"', "- ", "&a", "*a", "!!", "|\n", "\n---\n", "null", "{}"]
)
noise = st.text(st.sampled_from("ab1 \n\t:-[]{}&*!|>'\"#%@`?,<.~\\uU0x"), max_size=60)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the path of the host file of 'bee', in a new directory."""
    folder = tmp_path_factory.mktemp("hosts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWARM_HOSTS", str(folder))
        yield folder / "bee.yaml"


def dump(tree: object) -> str:
    """Return data as YAML."""
    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = (
        False  # ruamel.yaml cannot read everything that it writes in flow style, such as {a: :0}
    )
    yaml.dump(tree, out)
    return out.getvalue()


def check(file: Path, content: str | bytes) -> None:
    """Load the content as a host file. Fail the test unless the result is a host or one clear error."""
    file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    try:
        inventory.load("bee")
    except InventoryError as error:
        message = str(error)
    else:
        return
    assert re.match(rf"([0-9]+ problems in )?{re.escape(str(file))}:", message)
    assert "pydantic" not in message
    assert "Input should" not in message


@often
@given(content=st.binary(max_size=200) | st.text() | noise)
def test_any_content_gives_a_host_or_one_clear_error(file: Path, content: str | bytes) -> None:
    """No content of a host file causes a traceback or a message of another library."""
    check(file, content)


@often
@given(start=st.integers(0, len(ZAP)), length=st.integers(0, 40), insert=slips)
def test_any_edit_of_a_valid_file_gives_a_host_or_one_clear_error(
    file: Path, start: int, length: int, insert: str
) -> None:
    """No typing error in zap.yaml causes a traceback."""
    check(file, ZAP[:start] + insert + ZAP[start + length :])


@often
@given(tree=trees, path=st.lists(st.integers(0, 10), min_size=1, max_size=3), value=anything)
def test_any_value_anywhere_gives_a_host_or_one_clear_error(
    file: Path, tree: dict[str, Any], path: list[int], value: object
) -> None:
    """No value of any type, at any level, causes a traceback."""
    node = tree
    for number, step in enumerate(path):
        key = list(node)[step % len(node)]
        if number == len(path) - 1 or not isinstance(node[key], dict) or not node[key]:
            node[key] = value
            break
        node = node[key]
    check(file, dump(tree))


@often
@given(tree=trees)
def test_a_host_can_be_written_and_loaded_again(file: Path, tree: dict[str, Any]) -> None:
    """load() and the schema accept a valid tree, and loading the host from its own YAML gives the same host."""
    file.write_text(dump(tree), encoding="utf-8")
    host = inventory.load("bee")
    SCHEMA.validate(tree)
    again = host.model_dump(mode="json", exclude={"name", "machine"})
    SCHEMA.validate(again)
    file.write_text(dump(again), encoding="utf-8")
    assert inventory.load("bee") == host


@often
@given(domain=domains, mac=macs, ip=addresses)
def test_valid_values_are_kept(file: Path, domain: str, mac: str, ip: IPv4Address) -> None:
    """Every valid domain name, MAC (in lowercase) and address is kept."""
    assume(len(domain.encode()) <= 200)
    tree = YAML(typ="safe", pure=True).load(ZAP)
    tree["vm"] |= {"domain": domain, "mac": mac, "ip": str(ip)}
    file.write_text(dump(tree), encoding="utf-8")
    vm = inventory.load("bee").vm
    assert (vm.domain, vm.mac, vm.ip) == (domain, mac.lower(), ip)


@often
@given(
    before=st.text(string.printable, max_size=5),
    bad=st.characters(categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("/,"),
    after=st.text(string.printable, max_size=5),
)
def test_a_domain_name_with_a_forbidden_character_is_refused(
    file: Path, before: str, bad: str, after: str
) -> None:
    """A domain name with a slash, comma, control character or lone surrogate is refused with its line."""
    quoted = "".join(f"\\U{ord(one):08x}" for one in before + bad + after)
    file.write_text(ZAP.replace('"zap [claw]"', f'"{quoted}"'), encoding="utf-8")
    with pytest.raises(InventoryError) as caught:
        inventory.load("bee")
    assert caught.value.message.startswith(f"{file}:7: ")
