"""What the container litellm-init runs once, and `inv litellm.up --native`: register the models of models.yaml.

It uses only what LiteLLM's own image has. With FORCE=1 it runs although models are there; without it, a model called
gpt-4o in the database is taken as a sign that an earlier run, or the script that came before swarm, has done the work.
"""

from __future__ import annotations

import os
import sys

from swarm.console import Talk, screen
from swarm.deadline import Deadline
from swarm.errors import SwarmError, Unreachable, explained
from swarm.litellm import apply, client, environment, wanted

__all__ = ["main", "run"]

SENTINEL = "gpt-4o"
_READY = 300.0  # seconds that the proxy may take to become ready
_PAUSE = 2.0
_OK = 200


def run(talk: Talk) -> bool:
    """Wait for the proxy and register the models, unless the sentinel is there. Return whether anything changed.

    Raise SwarmError.
    """
    variables = environment.read()
    with client.client(variables) as session:
        deadline = Deadline(_READY)
        while session.health("readiness").status != _OK:
            if not deadline.pause(_PAUSE):
                raise Unreachable(f"LiteLLM at {variables.url} was not ready after {_READY:.0f} s")
        forced = os.environ.get("FORCE") == "1"
        if not forced and any(row.name == SENTINEL and row.from_db for row in session.rows()):
            talk.say(
                f"{SENTINEL} is registered already, so nothing is done; FORCE=1 registers the models again"
            )
            return False
        return bool(apply.bring(session, wanted.resolve(wanted.load(), variables), talk))


def main() -> int:
    """Run it and return an exit code."""
    try:
        run(Talk(screen()))
    except SwarmError as error:
        screen().error(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a container's log needs a sentence, too
        screen().error(explained(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
