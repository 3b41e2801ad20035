"""The JSON Schema of a host file, for editors that validate YAML.

After a change of the model, run `.venv/bin/python -m swarm.inventory > hosts/schema.json`.
"""

from __future__ import annotations

import json
from typing import Any

from swarm.inventory.model import Host
from swarm.inventory.uri import NONE

__all__ = ["json_schema", "schema_text"]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a host file. Only load() checks the rules that involve two fields."""
    schema = Host.model_json_schema()
    del schema["properties"]["name"]  # comes from the file name
    del schema["required"]  # which was nothing but the name
    for key in ("vm", "machine"):  # a section that is there has keys
        schema["properties"][key] = {"$ref": f"#/$defs/{key.capitalize()}"}
    by_none = {"properties": {"hypervisor": {"properties": {"uri": {"const": NONE}}, "required": ["uri"]}}}
    schema |= {
        "if": by_none | {"required": ["hypervisor"]},
        "then": {"required": ["machine"], "properties": {"vm": False}},
        "else": {"required": ["vm"], "properties": {"machine": False}},
    }
    return (
        {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        | schema
        | {"title": "A host file of swarm"}
    )


def schema_text() -> str:
    """Return the JSON Schema in the form of hosts/schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
