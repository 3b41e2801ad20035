"""Editors that know hosts/schema.json accept what swarm accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from swarm import inventory
from swarm.inventory.report import _leaves
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = ROOT / "hosts"


def read(path: Path) -> Any:  # noqa: ANN401 - a YAML tree is anything
    """Return a YAML file as any other program reads it."""
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """Return the validator that an editor would use, which checks addresses too."""
    return jsonschema.Draft202012Validator(inventory.json_schema(), format_checker=jsonschema.FormatChecker())


def test_the_schema_is_a_schema() -> None:
    """The generated schema is right by JSON Schema's own rules."""
    jsonschema.Draft202012Validator.check_schema(inventory.json_schema())


def test_the_schema_in_the_repository_is_today_s() -> None:
    """hosts/schema.json is up to date: .venv/bin/python -m swarm.inventory > hosts/schema.json."""
    assert (HOSTS / "schema.json").read_text(encoding="utf-8") == inventory.schema_text()


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_host_file_fits_the_schema_and_names_it(
    validator: jsonschema.Draft202012Validator, path: Path
) -> None:
    """The project's host files are right in an editor's eyes, which finds the schema by their first line."""
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
def test_an_editor_marks_what_swarm_would_refuse(
    validator: jsonschema.Draft202012Validator, section: str, key: str, value: object
) -> None:
    """The schema alone already refuses the common mistakes, each of which makes a right file wrong."""
    tree = read(HOSTS / "zap.yaml")
    assert validator.is_valid(tree)
    tree[section][key] = value
    assert not validator.is_valid(tree)


@pytest.mark.parametrize("tree", [{}, {"vm": None}, {"vm": {}}, [], None, {"name": "zap"}])
def test_an_editor_marks_what_is_no_host(validator: jsonschema.Draft202012Validator, tree: object) -> None:
    """A file without a VM is wrong in an editor too."""
    assert not validator.is_valid(tree)


def test_every_key_is_explained() -> None:
    """Each key has a description, which editors show, and stands in hosts/README.md."""
    readme = (HOSTS / "README.md").read_text(encoding="utf-8")
    definitions = inventory.json_schema()["$defs"]
    names = {"guest": "Customize", "openclaw": "InstallSettings"}
    for path in _leaves():
        section = names.get(path[-2], path[-2].capitalize())
        if section not in definitions:  # a mirror's own keys, which are those of an apt source
            continue
        assert f"`{path[-1]}`" in readme
        assert definitions[section]["properties"][path[-1]]["description"]
