"""Ask the hook's own endpoint, from the guest and with the hook's own settings, whether it accepts events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from swarm.errors import CommandFailed, VerificationFailed
from swarm.guest.engine.script import alone_as
from swarm.text import quote, visible

if TYPE_CHECKING:
    from swarm.agentmon.envelope import Event
    from swarm.console import Talk
    from swarm.inventory import InstallSettings
    from swarm.ssh.guest import Guest

__all__ = ["judge", "rejection"]

_LIMIT = 60.0  # seconds: the request has 10 s, and Node takes several to start under emulation

# The endpoint's authorities come from where the gateway has them: the unit's environment, or /etc/environment.
_SHELL = r"""
ca=$(systemctl --user show -p Environment --value openclaw-gateway.service 2>/dev/null |
  sed -n 's/.*NODE_EXTRA_CA_CERTS=\([^ ]*\).*/\1/p')
[ -z "$ca" ] || export NODE_EXTRA_CA_CERTS="$ca"
"""

# It posts by the hook's own client. Node's fetch would refuse some ports, such as 6000, to which the hook can send.
_PROGRAM = """
process.loadEnvFile(%(env)s);
const { configure } = await import(%(folder)s + "/lib/config.ts");
const { judge } = await import(%(folder)s + "/lib/answers.ts");
const { post } = await import(%(folder)s + "/lib/post.ts");
const config = configure(process.env);
const events = %(events)s;
const bodies = { single: () => events[0], array: () => `[${events}]`, ndjson: () => events.join("\\n") + "\\n" };
const type = config.batch === "ndjson" ? "application/x-ndjson" : "application/json";
const signal = AbortSignal.timeout(10000);
let status = 0, reason = "";
try {
  const headers = { ...config.headers, "content-type": type };
  status = (await post(config.url, { headers, body: bodies[config.batch](), signal })).status;
} catch (error) {
  reason = signal.aborted ? "no answer within 10 s" : String(error.code ?? error.message);
}
console.log(JSON.stringify({ status, reason, verdict: judge(status) }));
process.exit();
"""


def rejection(
    guest: Guest, openclaw: InstallSettings, events: list[Event], talk: Talk
) -> VerificationFailed | None:
    """Post up to two events, which are sent again later and have the same ids then. Warn if nobody answers.

    Return an error if the endpoint answers that it does not take them, so that they would be lost or kept for ever.
    Raise CommandFailed if the guest can't ask it.
    """
    values = {
        "env": json.dumps(f"{openclaw.config_dir}/.env"),
        "folder": json.dumps(f"{openclaw.config_dir}/hooks/agentmon"),
        "events": json.dumps([json.dumps(event.data) for event in events[:2]]),
    }
    run = f"{_SHELL}\nprintf '%s' {quote(_PROGRAM % values)} | node --input-type=module -"
    script = alone_as(openclaw.user, run)
    with talk.step("ask the endpoint", silent=True):
        answer = guest.check(script, "asking agentmon's endpoint", timeout=_LIMIT)
    try:
        found = json.loads(answer[-1000:].strip().splitlines()[-1])
        status, verdict, reason = int(found["status"]), str(found["verdict"]), str(found["reason"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise CommandFailed(f"{guest.alias}: asking agentmon's endpoint: the answer can't be read") from None
    return judge(guest.alias, verdict, f"HTTP {status}" if status else visible(reason)[:60], talk)


def judge(host: str, verdict: str, answer: str, talk: Talk) -> VerificationFailed | None:
    """Return what a verdict of hooks/agentmon/lib/answers.ts means for a deployment. Warn if the endpoint is down."""
    if verdict == "delivered":
        return None
    if verdict == "retry":
        talk.warn(
            f"the endpoint does not take the guest's events now ({answer}); they wait there until it does"
        )
        return None
    if verdict == "misconfigured":
        hint = "check agentmon.url, agentmon.token_env and the token's value"
    else:
        hint = "check agentmon.batch: not every endpoint takes arrays or ndjson"
    return VerificationFailed(f"{host}: the endpoint does not take the hook's events ({answer})", hint)
