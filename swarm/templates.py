"""Render everything that swarm writes for others. Unknown names are errors, and XML is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from swarm.paths import ROOT
from swarm.text import quote

__all__ = ["environment", "render"]


@cache
def environment(*, escape: bool) -> Environment:
    """Return Jinja's environment for the templates, with XML escaping if `escape` is set.

    It has a filter `sh`, which quotes a value as one word of shell, or a list as one word for each value.
    """
    made = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        undefined=StrictUndefined,
        autoescape=escape,  # noqa: S701 - what is written is not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # By default `tojson` would write 🦞 as two surrogates, which YAML reads as two invalid characters.
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": True}
    made.filters["sh"] = _sh
    return made


def _sh(value: object) -> str:
    words = value if isinstance(value, (list, tuple)) else (value,)
    return quote(*(str(word) for word in words))


def render(template: str, **values: Any) -> str:
    """Return templates/`template` with `values` filled in. Raise jinja2.UndefinedError for a name without a value.

    The values are escaped if the template is XML or HTML. Elsewhere that would turn a quote into an entity.
    """
    escape = ".xml" in template or ".html" in template
    return environment(escape=escape).get_template(template).render(values)
