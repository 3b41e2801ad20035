"""The releases of Node that OpenClaw runs with: "engines" in its package.json, Node >=24.16.0 <25 || >=26.1.0."""

from __future__ import annotations

import math
import re

__all__ = ["LOWEST", "NEEDED", "runs_openclaw"]

LOWEST = "24.16"
NEEDED = "24.16 or a later 24, or 26.1 or later"


def runs_openclaw(version: str) -> bool:
    """Return whether OpenClaw runs with a version such as v24.21.0, or with the newest of a line such as 24.x."""
    major, minor, *_ = (*map(float, re.findall(r"[0-9]{1,6}", version)), math.inf, math.inf)
    return (24, 16) <= (major, minor) < (25,) or (26, 1) <= (major, minor) < (math.inf,)
