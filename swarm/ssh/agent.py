"""The keys that the user's ssh-agent holds. OpenSSH's PROTOCOL.agent describes what is said."""

from __future__ import annotations

import base64
import os
import socket
import struct

from swarm.ssh.wire import field

__all__ = ["held"]

_ASK, _ANSWER = 11, 12  # SSH_AGENTC_REQUEST_IDENTITIES and SSH_AGENT_IDENTITIES_ANSWER
_MOST = 256 << 10  # bytes of an answer, as in OpenSSH
_PATIENCE = 1.0  # seconds; a local agent answers in a millisecond


def held() -> list[str]:
    """Return the agent's public keys as "type key", or none if there is no agent that answers."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return []
    try:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(_PATIENCE)
            agent.connect(path)
            agent.sendall(struct.pack(">IB", 1, _ASK))
            (length,) = struct.unpack(">I", _exactly(agent, 4))
            return _keys(_exactly(agent, min(length, _MOST)))
    except (OSError, ValueError, struct.error):
        return []


def _exactly(agent: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        if not (data := agent.recv(count - len(found))):
            raise ValueError
        found += data
    return found


def _keys(answer: bytes) -> list[str]:
    code, count = struct.unpack_from(">BI", answer)
    rest, keys = answer[5:], []
    for _ in range(count if code == _ANSWER else 0):
        blob, rest = field(rest)
        _, rest = field(rest)  # the comment
        kind, _ = field(blob)
        keys.append(f"{kind.decode('ascii')} {base64.b64encode(blob).decode()}")
    return keys
