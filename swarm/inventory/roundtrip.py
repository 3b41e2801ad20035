"""Edit a YAML file and keep its comments, order and format."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from swarm.files import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ruamel.yaml import YAML

__all__ = ["changed", "edited"]


@contextmanager
def edited(path: Path, check: Callable[[], None]) -> Iterator[Any]:
    """Yield the content of a YAML file, write it after the block, and call `check`.

    Whatever `check` raises is raised, and the file is then as it was before.
    """
    old = path.read_text(encoding="utf-8")
    yaml = _yaml()
    document, new = yaml.load(old), io.StringIO()
    yield document
    yaml.dump(document, new)
    rewrite(path, new.getvalue())
    try:
        check()
    except BaseException:
        rewrite(path, old)
        raise


def changed(text: str, change: Callable[[Any], None]) -> str:
    """Return the text of a YAML file after `change` has changed its content in place."""
    yaml, new = _yaml(), io.StringIO()
    document = yaml.load(text)
    change(document)
    yaml.dump(document, new)
    return new.getvalue()


def _yaml() -> YAML:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16  # long lines stay as they are
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
