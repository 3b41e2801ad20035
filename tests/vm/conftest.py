"""One real boot of the reference VM for all these tests; tests that change the guest get a restored copy.

The order of the tests follows from their fixtures, see `NEEDS`; the names of their files do not matter.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from swarm.paths import cache_dir
from tests.vm.lab import Lab, Ran

if TYPE_CHECKING:
    from collections.abc import Iterator

# Taken before any fixture moves the cache: an image that is here already need not be built again.
CACHE = cache_dir()

# Tests run in the order of the last of these fixtures that they use. The running VM comes first. Then come its copies,
# for which it is saved to disk and so ends, and then what only needs its image. All other tests come last.
NEEDS = ("zap", "frozen", "fresh")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of this folder by what they need, and leave all others where they are."""
    here = Path(__file__).parent
    places = [number for number, item in enumerate(items) if item.path.is_relative_to(here)]
    ordered = sorted((items[number] for number in places), key=_turn)
    for number, item in zip(places, ordered, strict=True):
        items[number] = item


def _turn(item: pytest.Item) -> int:
    fixtures = getattr(item, "fixturenames", ())
    return max((turn for turn, name in enumerate(NEEDS) if name in fixtures), default=len(NEEDS))


def make_lab(base: Path, name: str) -> Lab:
    """Make a laboratory beneath `base`."""
    return Lab(base / name, CACHE)


@pytest.fixture(scope="package")
def zap_lab(base: Path) -> Iterator[Lab]:
    """A laboratory with zap's host file and no VM yet."""
    lab = make_lab(base, "zap")
    lab.zap()
    yield lab
    lab.close()
    shutil.rmtree(lab.base)


@pytest.fixture(scope="package")
def late(zap_lab: Lab) -> Ran:
    """The output of the first `./inv provision --host zap`, whose time is over long before the VM has booted."""
    return zap_lab.inv("provision", "--host", "zap", "--timeout", "5")


@pytest.fixture(scope="package")
def stopped(zap_lab: Lab, late: Ran) -> Ran:
    """The output of the second one, which Ctrl-C ends while it waits for the same VM."""
    assert "was not reached" in late.err, late.err  # any other failure explains all that follow
    waiting = zap_lab.start("provision", "--host", "zap")
    assert waiting.stderr
    began = next(line for line in waiting.stderr if "domain running" in line)  # as the first rung is reached
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate()
    zap_lab.running.remove(waiting)
    return Ran(waiting.returncode, out, began + err)


@pytest.fixture(scope="package")
def provisioned(zap_lab: Lab, stopped: Ran) -> Ran:
    """The output of the one that completes the VM: the one real boot."""
    assert stopped.code
    return zap_lab.inv("provision", "--host", "zap")


@pytest.fixture(scope="package")
def zap(zap_lab: Lab, provisioned: Ran) -> Lab:
    """The laboratory with zap running."""
    assert provisioned.code == 0, provisioned.err
    return zap_lab


@pytest.fixture(scope="package")
def frozen(zap: Lab) -> Lab:
    """The laboratory with zap saved to disk. It can be copied, but no longer used."""
    zap.freeze()
    return zap


def thawed(base: Path, name: str, frozen: Lab) -> Lab:
    """Make a running copy of the frozen laboratory."""
    lab = make_lab(base, name)
    lab.thaw(frozen)
    return lab


@pytest.fixture(scope="module")
def fresh(base: Path, zap: Lab) -> Iterator[Lab]:
    """A laboratory with no VM yet, and zap's image in the cache. zap is stopped, so that it takes no processor time."""
    zap.inv("stop", "--host", "zap", "--force")
    lab = make_lab(base, "fresh")
    lab.zap()
    yield lab
    lab.close()
    shutil.rmtree(lab.base)


@pytest.fixture(scope="module")
def spare(base: Path, frozen: Lab, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running copy of zap for one file of tests, which change it in the order of the file."""
    lab = thawed(base, request.module.__name__.rpartition("_")[2][:8], frozen)
    yield lab
    lab.close()
    shutil.rmtree(lab.base)
