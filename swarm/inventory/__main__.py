"""Print the JSON Schema of a host file: `.venv/bin/python -m swarm.inventory > hosts/schema.json`."""

from __future__ import annotations

import sys

from swarm.inventory import schema_text

sys.stdout.write(schema_text())
