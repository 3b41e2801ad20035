"""Load host files: turn hosts/NAME.yaml into an immutable `Host`, or raise an error with file, line and field.

document  YAML → plain values and their lines      model   the sections and keys (inside: those about the guest)
report    validation errors → messages and hints   fields  the types of values
files     load, load_several, load_all, names      uri     the libvirt URIs
checks    against other hosts, network and disk    schema  the JSON Schema for editors
"""

from __future__ import annotations

from swarm.inventory.agentmon import AgentmonSettings
from swarm.inventory.backup import BackupSettings
from swarm.inventory.checks import NetworkFacts, check_disk, check_network, cross_check, locate
from swarm.inventory.egress import ANY, Egress, Target, target
from swarm.inventory.fields import GIB, size
from swarm.inventory.files import load, load_all, load_draft, load_others, load_several, names, validate
from swarm.inventory.inside import Customize, InstallSettings
from swarm.inventory.model import Drill, Host, Hypervisor, Machine, Virtiofs, Vm
from swarm.inventory.schema import json_schema, schema_text
from swarm.inventory.uri import EMBEDDED, NONE

__all__ = [
    "ANY",
    "EMBEDDED",
    "GIB",
    "NONE",
    "AgentmonSettings",
    "BackupSettings",
    "Customize",
    "Drill",
    "Egress",
    "Host",
    "Hypervisor",
    "InstallSettings",
    "Machine",
    "NetworkFacts",
    "Target",
    "Virtiofs",
    "Vm",
    "check_disk",
    "check_network",
    "cross_check",
    "json_schema",
    "load",
    "load_all",
    "load_draft",
    "load_others",
    "load_several",
    "locate",
    "names",
    "schema_text",
    "size",
    "target",
    "validate",
]
