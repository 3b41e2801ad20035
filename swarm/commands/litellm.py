"""The commands that start, stop and watch LiteLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.console import Talk, screen
from swarm.errors import SwarmError, UsageError

if TYPE_CHECKING:
    from swarm.litellm.compose import State

__all__ = ["down", "logs", "status", "up"]


def up(*, native: bool, limit: float, as_json: bool) -> int:
    """Start LiteLLM and wait until it is ready."""
    from swarm.commands.vm import positive
    from swarm.litellm import compose, first
    from swarm.litellm import native as services

    positive("--timeout", limit)
    talk = Talk(screen(), quiet=as_json)
    if native:
        changed = services.up(talk, limit)
        changed = first.run(Talk(screen(), quiet=True)) or changed
    else:
        changed = compose.up(talk, limit)
    return _say(talk, changed=changed, native=native, as_json=as_json)


def down(*, native: bool, as_json: bool) -> int:
    """Stop LiteLLM, and keep its database."""
    from swarm.litellm import compose
    from swarm.litellm import native as services

    talk = Talk(screen(), quiet=as_json)
    changed = services.down(talk) if native else compose.down(talk)
    return _say(talk, changed=changed, native=native, as_json=as_json)


def logs(*, native: bool, follow: bool, lines: int) -> int:
    """Write the logs to stdout. Raise UsageError for a negative number of lines."""
    from swarm.litellm import compose
    from swarm.litellm import native as services

    if lines < 0:
        raise UsageError("--lines is negative", "give a number of lines, such as --lines 100")
    if native:
        return services.logs(follow=follow, lines=lines)
    return compose.logs(follow=follow, lines=lines)


def status(*, as_json: bool) -> int:
    """Show what runs, in containers, as services, or elsewhere at LITELLM_URL. Return 1 if LiteLLM is not ready."""
    from swarm.litellm import compose
    from swarm.litellm import native as services

    own, found, problem = services.state(), None, None
    try:
        found = compose.state()
    except SwarmError as error:
        found = None if own else compose.elsewhere()
        if not own and not found:
            raise
        problem = error
    if as_json:
        _write(found, own, problem)
    else:
        _show(found, own, problem)
    return int(not (found.ready if found else own.get("readiness") in {"ok", "ready"}))


def _write(found: State | None, own: dict[str, str], problem: SwarmError | None) -> None:
    docker = found.to_json() if found else {"error": problem.message if problem else None}
    screen().json({"docker": docker, "native": own or None})


def _show(found: State | None, own: dict[str, str], problem: SwarmError | None) -> None:
    talk = Talk(screen())
    if problem:
        talk.warn(f"containers: {problem.message}")
    if found and (found.containers or not own):
        rows = [
            (each.service, each.shown if each.good else f"✗ {each.shown}", each.image)
            for each in found.containers
        ]
        for name, word in (("alive", found.dead), ("ready", found.unready)):
            rows.append((name, f"✗ {word}" if word else "yes", found.url))
        screen().table(("docker", "state", "image or address"), rows)
    if own:
        screen().table(("native", "state"), list(own.items()))


def _say(talk: Talk, *, changed: bool, native: bool, as_json: bool) -> int:
    if as_json:
        screen().json({"changed": changed, "mode": "native" if native else "docker"})
    elif not changed:
        talk.say("nothing to do")
    return 0
