"""swarm's private libvirt: a libvirtd in its own namespaces, independent of the system's libvirt.

`host.py` is the first process in the namespaces. `broker.py` opens connections to the guests' network from outside.
The rest of swarm calls `client.py`.
"""

from swarm.embedded.client import Embedded

__all__ = ["Embedded"]
