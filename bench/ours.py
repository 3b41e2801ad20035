"""The twelve steps that bench/configure.py measures, and swarm's way to take them.

This is a separate program so that it imports no more than swarm itself does.

python bench/ours.py CONFIG HOST…
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from swarm.front.process import begin, leave

begin()

from bench._connection import Connection  # noqa: E402 - begin() makes this import faster

if TYPE_CHECKING:
    from collections.abc import Callable

    from swarm.guest.engine.step import Step

__all__ = ["COMMANDS", "FILES", "LINES", "OWNER", "SYSCTLS", "converge_all", "our_steps"]

SYSCTLS = {"net.ipv4.ip_default_ttl": "65", "net.ipv4.tcp_fin_timeout": "59"}
FILES = {
    f"/etc/bench/{name}.conf": f"# {name} of {{{{ owner }}}}\n"
    + "".join(f"key{i} = {name} {i}\n" for i in range(40))
    for name in ("one", "two", "three", "four")
}
LINES = {"/etc/bench.list": ("colour = blue", r"^colour\b"), "/etc/bench.other": ("size = 3", r"^size\b")}
COMMANDS = {"/var/bench-a": "date >/var/bench-a", "/var/bench-b": "date >/var/bench-b"}
OWNER = "the bench"


def our_steps() -> list[Step]:
    """The twelve steps as swarm states them."""
    from jinja2 import Environment, StrictUndefined

    from swarm.guest.kinds.accounts import group, member, user
    from swarm.guest.kinds.commands import command
    from swarm.guest.kinds.edits import line
    from swarm.guest.kinds.files import file
    from swarm.guest.kinds.settings import sysctl

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    return [
        *(file(path, environment.from_string(text).render(owner=OWNER)) for path, text in FILES.items()),
        *(line(path, text, match) for path, (text, match) in LINES.items()),
        *(sysctl(key, value) for key, value in SYSCTLS.items()),
        group("benchers"),
        user("bench", home="/home/bench"),
        member("bench", "benchers", after=("user bench", "group benchers")),
        *(command(path, script, unless=f"test -e {path}") for path, script in COMMANDS.items()),
    ]


def converge_all(config: Path, names: list[str]) -> None:
    """Configure the hosts in one thread each. Connect before the heavy imports, and probe all hosts at once."""
    links = [Connection(config, name) for name in names]
    for link in links:
        link.connect()
    from threading import Thread

    from swarm.console import Screen, Talk
    from swarm.errors import SwarmError
    from swarm.guest.engine.converge import converge, observe

    wanted = our_steps()
    asked = [observe(link, wanted) for link in links]
    screen = Screen()
    screen.load()
    failed: list[SwarmError] = []

    def one(link: Connection, answer: Callable[[], dict[str, str]]) -> None:
        try:
            converge(link, wanted, Talk(screen, link.alias), asked=answer)
        except SwarmError as error:
            failed.append(error)

    threads = [Thread(target=one, args=pair) for pair in zip(links, asked, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit("\n".join(str(error) for error in failed))


if __name__ == "__main__":
    converge_all(Path(sys.argv[1]), sys.argv[2:])
    leave(0)  # as the command line does
