"""swarm's private libvirt: a libvirtd in its own namespaces, which neither needs nor touches a configured one.

`host.py` is the first process of the namespaces. `broker.py` connects the outside to the guests' network. The rest of
swarm calls `client.py`.
"""

from swarm.embedded.client import Embedded

__all__ = ["Embedded"]
