"""hosts/schema.json accepts what swarm accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from swarm import inventory
from swarm.inventory.report import leaves
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = ROOT / "hosts"


def read(path: Path) -> Any:  # noqa: ANN401 - YAML can contain any type
    """Return the content of a YAML file, read independently of swarm."""
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """Return a validator that also checks formats, as editors do."""
    return jsonschema.Draft202012Validator(inventory.json_schema(), format_checker=jsonschema.FormatChecker())


def test_the_schema_is_valid() -> None:
    """The generated schema is a valid JSON Schema."""
    jsonschema.Draft202012Validator.check_schema(inventory.json_schema())


def test_the_schema_in_the_repository_is_up_to_date() -> None:
    """hosts/schema.json matches the model. Update it: .venv/bin/python -m swarm.inventory > hosts/schema.json."""
    assert (HOSTS / "schema.json").read_text(encoding="utf-8") == inventory.schema_text()


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_host_file_matches_the_schema(validator: jsonschema.Draft202012Validator, path: Path) -> None:
    """The project's host files match the schema, which their first line refers to."""
    validator.validate(read(path))
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("hypervisor", "uri", "xen:///system"),
        ("hypervisor", "uri", "qemu+tcp://box/system"),
        ("hypervisor", "acceleration", "fast"),
        ("hypervisor", "network", "a/b"),
        ("vm", "domain", "a/b"),
        ("vm", "domain", "a,b"),
        ("vm", "domain", " a"),
        ("vm", "hostname", "a_b"),
        ("vm", "image", "../x"),
        ("vm", "memory_mib", "3072"),
        ("vm", "memory_mib", 100),
        ("vm", "memory_mib", True),
        ("vm", "vcpus", 0),
        ("vm", "disk_path", "claw.qcow2"),
        ("vm", "disk_path", "/claw.qcow2"),
        ("vm", "disk_size", 60),
        ("vm", "disk_size", "60GB"),
        ("vm", "mac", "53:54:00:01:00:71"),
        ("vm", "ip", "192.168.122.300"),
        ("vm", "autostart", "yes"),
        ("vm", "colour", "red"),
        ("vm", "virtiofs", {"source": "x", "tag": "a b", "target": "/mnt"}),
        ("vm", "virtiofs", {"source": "x", "tag": "a", "target": "mnt"}),
        ("vm", "virtiofs", {"source": "x", "tag": "a"}),
        ("guest", "swappiness", 300),
        ("openclaw", "install_mode", "dev"),
        ("openclaw", "ssh_keys", "ssh-ed25519 AAAA"),
        ("openclaw", "ssh_keys", ["-----BEGIN OPENSSH PRIVATE KEY-----"]),
    ],
)
def test_the_schema_refuses_common_mistakes(
    validator: jsonschema.Draft202012Validator, section: str, key: str, value: object
) -> None:
    """The schema refuses each common mistake in an otherwise valid file."""
    tree = read(HOSTS / "zap.yaml")
    assert validator.is_valid(tree)
    tree[section][key] = value
    assert not validator.is_valid(tree)


@pytest.mark.parametrize("tree", [{}, {"vm": None}, {"vm": {}}, [], None, {"name": "zap"}])
def test_the_schema_refuses_a_file_without_a_vm(
    validator: jsonschema.Draft202012Validator, tree: object
) -> None:
    """The schema refuses a file that does not describe a VM."""
    assert not validator.is_valid(tree)


def test_every_key_is_documented() -> None:
    """Each key has a description in the schema, and hosts/README.md lists it."""
    readme = (HOSTS / "README.md").read_text(encoding="utf-8")
    definitions = inventory.json_schema()["$defs"]
    names = {"guest": "Customize", "openclaw": "InstallSettings"}
    assert inventory.json_schema()["properties"]["groups"]["description"]
    assert "`groups`" in readme
    for path in leaves():
        if path == ("groups",):
            continue
        section = names.get(path[-2], path[-2].capitalize())
        if section not in definitions:  # the keys of a mirror, which are those of an apt source
            continue
        assert f"`{path[-1]}`" in readme
        assert definitions[section]["properties"][path[-1]]["description"]
