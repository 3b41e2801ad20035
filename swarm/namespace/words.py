"""The help of options that several commands share."""

from __future__ import annotations

__all__ = ["ARCHIVE", "HOST", "IDENTITY", "JSON", "LIMIT", "PLAN", "TIMEOUT", "YES"]

HOST = {"host": "names, patterns ('web*'), groups (@home) or all, separated by commas"}
JSON = {"json": "write data for scripts to stdout"}
LIMIT = {"timeout": "seconds that the work on one host may take"}
PLAN = {"plan": "only show what would change", **JSON}
TIMEOUT = {"timeout": "seconds that all waiting together may take"}
YES = {"yes": "do not ask for confirmation"}
IDENTITY = {
    "host": "a host's name",
    "identity": "a file with the age secret key; default: that in SWARM_AGE_IDENTITY",
}
ARCHIVE = {"archive": "the name of an archive; default: latest", **IDENTITY}
