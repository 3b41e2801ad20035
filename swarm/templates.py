"""Everything swarm writes for others is rendered here: unknown names are errors, and XML is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from swarm.paths import ROOT

__all__ = ["render"]


@cache
def _environment(*, escape: bool) -> Environment:
    # Escaping is on wherever the text is XML; elsewhere it would turn a quote into &#34;.
    environment = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        undefined=StrictUndefined,
        autoescape=escape,  # noqa: S701 - what is written is not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # JSON, as `tojson` writes it into YAML, would write 🦞 as two halves, which YAML reads as two characters that are none.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": True}
    return environment


def render(template: str, **values: Any) -> str:
    """Return templates/`template`, filled in. Raise jinja2.UndefinedError for a name that was not given."""
    return _environment(escape=".xml" in template).get_template(template).render(values)
