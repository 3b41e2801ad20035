"""Where the programs of bench/hook.py run the real gateway: in a folder and a network of their own."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tools.netns import Namespace
from tools.openclaw.gateway import package

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["apart"]


@contextmanager
def apart() -> Iterator[tuple[Path, ExitStack]]:
    """Give a folder inside a new network, and a stack whose callbacks run before both are removed."""
    package()  # installed before the registry is out of reach
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swarm-bench-")))
        network = Namespace()
        stack.callback(network.close)
        stack.enter_context(network.inside())
        yield folder, stack
