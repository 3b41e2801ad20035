"""Swarm's own private libvirt: a libvirtd in namespaces of its own, which needs and touches no configured one.

`host.py` is what runs inside (as the namespaces' first process), `broker.py` the door through which the outside reaches
the guests' network, `client.py` what the rest of swarm calls.
"""

from swarm.embedded.client import Embedded

__all__ = ["Embedded"]
