"""Edit a YAML file and keep its comments, order and format."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from swarm.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["edited"]


@contextmanager
def edited(path: Path, check: Callable[[], None]) -> Iterator[Any]:
    """Yield the content of a YAML file, write it after the block, and call `check`.

    Whatever `check` raises is raised, and the file is then as it was before.
    """
    from ruamel.yaml import YAML

    old, mode = path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16  # long lines stay as they are
    yaml.indent(mapping=2, sequence=4, offset=2)
    document, new = yaml.load(old), io.StringIO()
    yield document
    yaml.dump(document, new)
    write_atomically(path, new.getvalue(), mode=mode)
    try:
        check()
    except BaseException:
        write_atomically(path, old, mode=mode)
        raise
