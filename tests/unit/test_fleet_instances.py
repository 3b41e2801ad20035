"""The list of instances that swarm shares with other programs: four shapes, and nothing of others is lost."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from swarm.errors import Unfit
from swarm.fleet import instances
from swarm.paths import instances_file
from tests import samples

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dirs

ZAP = {"host": "zap", "ip": "192.168.122.182", "user": "openclaw", "port": 18789}
OTHER = {"ip": "10.0.0.9", "note": "größer", "tags": [1, 2.5, None]}


def write(data: object) -> None:
    """Write the file as another program would."""
    instances_file().parent.mkdir(exist_ok=True)
    instances_file().write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


def content() -> Any:  # noqa: ANN401 - any JSON value
    """Return what the file holds."""
    return json.loads(instances_file().read_bytes())


def test_a_new_file_is_private(dirs: Dirs) -> None:
    """The first entry makes the file and its directory for their owner alone; a second call changes nothing."""
    host = samples.host()
    assert instances.missing(host)
    assert (instances.put(host), instances.put(host)) == (True, False)
    assert content() == {"instances": {"zap": ZAP}}
    modes = [path.stat().st_mode & 0o777 for path in (instances_file(), instances_file().parent)]
    assert modes == [0o600, 0o700]
    assert dirs.hosts.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for another user")
def test_what_root_makes_belongs_to_the_folder_s_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `sudo`, the file, its lock and its directories belong to the owner of the home that they are in."""
    home, owner = tmp_path / "home", (4711, 4712)
    home.mkdir()
    os.chown(home, *owner)
    monkeypatch.setenv("SWARM_INSTANCES", str(home / ".claude/state/openclaw-instances.json"))
    assert instances.put(samples.host())
    found = sorted(home.rglob("*"))
    assert [path.name for path in found][2:] == [".openclaw-instances.json.lock", "openclaw-instances.json"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in found} == {owner}
    assert [oct(path.stat().st_mode & 0o777) for path in found] == ["0o700", "0o700", "0o600", "0o600"]


@pytest.mark.usefixtures("dirs")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"instances": {"zap": ZAP}}),
        ([], [{"name": "zap", **ZAP}]),
        ({"v": 2, "instances": {"bee": OTHER}}, {"v": 2, "instances": {"bee": OTHER, "zap": ZAP}}),
        (
            {"instances": [{"name": "bee", **OTHER}], "v": 2},
            {"instances": [{"name": "bee", **OTHER}, {"name": "zap", **ZAP}], "v": 2},
        ),
        ({"bee": OTHER}, {"bee": OTHER, "zap": ZAP}),
        ([{"name": "bee", **OTHER}], [{"name": "bee", **OTHER}, {"name": "zap", **ZAP}]),
    ],
)
def test_each_shape_is_kept(before: object, after: object) -> None:
    """An entry is added in the shape that the file has, after those of others, and removing it restores the rest."""
    write(before)
    instances.put(samples.host())
    assert json.dumps(content()) == json.dumps(after)  # also the order
    assert (instances.drop("zap"), instances.drop("zap")) == (True, False)
    assert json.dumps(content()) == json.dumps({"instances": {}} if before == {} else before)


@pytest.mark.usefixtures("dirs")
def test_unknown_fields_of_the_own_entry_stay() -> None:
    """An entry with an old address is corrected in its place, and keeps what other programs have added."""
    write({"zap": {"color": "red", **ZAP, "ip": "192.168.122.9"}, "bee": OTHER})
    assert instances.put(samples.host())
    assert json.dumps(content()) == json.dumps({"zap": {"color": "red", **ZAP}, "bee": OTHER})


@pytest.mark.usefixtures("dirs")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "3",
        '"zap"',
        "[1]",
        "[{}]",
        '{"zap": 1}',
        '{"instances": 3}',
        '{"instances": {"zap": []}}',
        '{"instances": {}, "instances": {}}',
        '[{"name": "a"}, {"name": "a"}]',
        '{"a": {"b": NaN}}',
        '{"a": {"b": 1e999}}',
        "[" * 100_000,
        '{"a": {"b": ' + "9" * 5000 + "}}",
        "\xff",
    ],
)
def test_a_file_that_can_not_be_read_is_not_touched(text: str) -> None:
    """A damaged file, or one of another shape, is one error that names it, and it stays byte for byte."""
    write(text)
    before = instances_file().read_bytes()
    host = samples.host()
    refused = r"openclaw-instances\.json can't be used: .*nothing was changed"
    with pytest.raises(Unfit, match=refused):
        instances.put(host)
    with pytest.raises(Unfit, match=refused):
        instances.drop("zap")
    assert instances_file().read_bytes() == before


@pytest.mark.usefixtures("dirs")
def test_a_folder_in_place_of_the_file_is_one_error() -> None:
    """A folder, or a link that leads in a circle, is one error that names the file."""
    instances_file().mkdir(parents=True)
    with pytest.raises(Unfit, match=r"openclaw-instances\.json can't be used: expected a regular file"):
        instances.read()
    instances_file().rmdir()
    instances_file().symlink_to(instances_file())
    with pytest.raises(Unfit, match=r"openclaw-instances\.json can't be used: Too many levels"):
        instances.read()


@pytest.mark.usefixtures("dirs")
@pytest.mark.parametrize(
    "before", [{"bee": OTHER}, {"instances": {"bee": OTHER}}, [{"name": "bee", **OTHER}]]
)
def test_a_host_may_be_called_instances(before: object) -> None:
    """In each shape, a host called as the key around all of them is added, found and removed like any other."""
    write(before)
    host = samples.host("instances")
    assert (instances.put(host), instances.put(host)) == (True, False)
    assert sorted(instances.read().entries) == ["bee", "instances"]
    assert instances.drop("instances")
    assert content() == before


@pytest.mark.usefixtures("dirs")
def test_half_a_surrogate_pair_survives() -> None:
    """Text that UTF-8 can't hold is written as the escape that it was."""
    write('{"bee": {"note": "\\ud83d"}}')
    instances.put(samples.host())
    assert content()["bee"] == {"note": "\ud83d"}


def test_a_link_stays_a_link(dirs: Dirs) -> None:
    """Where the file is a link, as into a directory of dotfiles, what it leads to is changed."""
    write({})
    target = dirs.state / "real.json"
    instances_file().rename(target)
    instances_file().symlink_to(target)
    instances.put(samples.host())
    assert instances_file().is_symlink()
    assert "zap" in target.read_text(encoding="utf-8")


@pytest.mark.usefixtures("dirs")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write another user's file")
def test_root_leaves_the_file_to_its_owner() -> None:
    """With sudo and the user's HOME, the file stays the user's, who could not read it otherwise."""
    write({})
    os.chown(instances_file(), 65534, 65534)
    instances_file().chmod(0o600)
    instances.put(samples.host())
    state = instances_file().stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (65534, 65534, 0o600)


@pytest.mark.usefixtures("dirs")
def test_runs_at_the_same_time_lose_nothing() -> None:
    """Eight runs that add a host each leave eight entries."""
    hosts = [samples.host(f"h{number}", ip=f"192.168.122.{number + 10}") for number in range(8)]
    threads = [threading.Thread(target=instances.put, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(instances.read().entries) == [host.name for host in hosts]
