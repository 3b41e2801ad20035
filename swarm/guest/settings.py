"""The settings' old place."""

from swarm.inventory.inside import *  # noqa: F403
