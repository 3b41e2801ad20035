"""The JSON Schema of a host file, for editors that check YAML while it is typed.

`.venv/bin/python -m swarm.inventory > hosts/schema.json` rewrites it after a change of the model.
"""

from __future__ import annotations

import json
from typing import Any

from swarm.inventory.model import Host

__all__ = ["json_schema", "schema_text"]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a host file. Rules about two fields are checked only by load()."""
    schema = Host.model_json_schema()
    del schema["properties"]["name"]  # the file's name says it
    schema["required"].remove("name")
    return (
        {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        | schema
        | {"title": "A host file of swarm"}
    )


def schema_text() -> str:
    """Return the JSON Schema as hosts/schema.json holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
