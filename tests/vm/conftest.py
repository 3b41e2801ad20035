"""One real boot of the reference VM for all these tests; those that would spoil it get a restored copy."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from swarm.paths import cache_dir
from tests.vm.lab import Lab, Ran

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Taken before any fixture moves the cache: an image that is here already need not be built again.
CACHE = cache_dir()


def make_lab(base: Path, name: str) -> Lab:
    """Make a laboratory below `base`."""
    return Lab(base / name, CACHE)


@pytest.fixture(scope="session")
def zap_lab(base: Path) -> Iterator[Lab]:
    """A laboratory with zap's host file and nothing made yet."""
    lab = make_lab(base, "zap")
    lab.zap()
    yield lab
    lab.close()
    shutil.rmtree(lab.base)


@pytest.fixture(scope="session")
def provisioned(zap_lab: Lab) -> Ran:
    """What `./inv provision --host zap` said: the one real boot."""
    return zap_lab.inv("provision", "--host", "zap")


@pytest.fixture(scope="session")
def zap(zap_lab: Lab, provisioned: Ran) -> Lab:
    """The laboratory with zap running."""
    assert provisioned.code == 0, provisioned.err
    return zap_lab


@pytest.fixture(scope="session")
def frozen(zap: Lab) -> Lab:
    """The laboratory with zap saved to disk: it cannot be used any more, but copied."""
    zap.freeze()
    return zap


def thawed(base: Path, name: str, frozen: Lab) -> Lab:
    """Make a running copy of the frozen laboratory."""
    lab = make_lab(base, name)
    lab.thaw(frozen)
    return lab


@pytest.fixture(scope="module")
def spare(base: Path, frozen: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running copy of zap for one file of tests, to be spoiled by them in their order."""
    lab = thawed(base, request.module.__name__.rpartition("_")[2][:8], frozen)
    yield lab
    lab.close()
    shutil.rmtree(lab.base)
