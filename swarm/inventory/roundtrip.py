"""Edit a YAML file and keep its comments, order and format."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from swarm.files import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ruamel.yaml import YAML

__all__ = ["changed", "edited"]

# The line --- and the comments and directives before it, which ruamel.yaml does not write again.
_HEAD = re.compile(r"\ufeff?(?:[ \t\r]*(?:[#%][^\n]*)?\n)*---[ \t\r]*(?:#[^\n]*)?\n")


@contextmanager
def edited(path: Path, check: Callable[[], None]) -> Iterator[Any]:
    """Yield the content of a YAML file, write it after the block, and call `check`.

    Whatever `check` raises is raised, and the file is then as it was before.
    """
    old = path.read_text(encoding="utf-8")
    yaml, (head, body) = _yaml(), _parts(old)
    document, new = yaml.load(body), io.StringIO()
    yield document
    yaml.dump(document, new)
    rewrite(path, head + new.getvalue())
    try:
        check()
    except BaseException:
        rewrite(path, old)
        raise


def changed(text: str, change: Callable[[Any], None]) -> str:
    """Return the text of a YAML file after `change` has changed its content in place."""
    yaml, new, (head, body) = _yaml(), io.StringIO(), _parts(text)
    document = yaml.load(body)
    change(document)
    yaml.dump(document, new)
    return head + new.getvalue()


def _parts(text: str) -> tuple[str, str]:
    """Return what stands up to the line ---, if there is one, and the rest."""
    head = match[0] if (match := _HEAD.match(text)) else ""
    return head, text[len(head) :]


def _yaml() -> YAML:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16  # long lines stay as they are
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
