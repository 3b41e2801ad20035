"""swarm's connection to a host, named in this one place.

A connection is made from an SSH configuration and a host's name in it. Its `close()` ends what it keeps open, and its
`options()` are those with which ssh itself goes over the same kept connection.
"""

from __future__ import annotations

from swarm.ssh.link import Link as Connection

__all__ = ["Connection"]
