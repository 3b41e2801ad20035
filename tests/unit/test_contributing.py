"""CONTRIBUTING.md shows the layers as pyproject.toml has them, and an example that works."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from swarm.guest.engine.graph import check_names, levels
from swarm.paths import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_table_of_layers_is_that_of_the_contract() -> None:
    """The table names the modules of each layer that lint-imports checks, in its order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    cells = re.findall(r"^\| (`swarm/[^|]*) \|", TEXT, re.MULTILINE)
    shown = [" | ".join(name.removesuffix(".py") for name in re.findall("`(.*?)`", cell)) for cell in cells]
    assert [each.replace("/", ".") for each in shown] == layers


def test_the_example_of_steps_works() -> None:
    """The steps of the example can be put in order: each waits only for one of them."""
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - our own document
    check_names(names["steps"])
    assert [step.subject for step in levels(names["steps"])[-1]] == ["unit docker.service"]
