"""Every text is parsed as a state of cloud-init: finished, failed, or not yet."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.vm.ladder import CloudInit, read_cloud_init
from tests.unit.ladders import DONE

FILES = [
    ("", CloudInit(done=False)),
    ("\n", CloudInit(done=False)),
    (DONE, CloudInit(done=True)),
    ('{"v1": {"errors": ["a", "b"]}}', CloudInit(done=True, error="a")),
    ('{"v1": {"errors": [7]}}', CloudInit(done=True, error="7")),
    ('{"v1": {"errors": "text"}}', CloudInit(done=True)),
    ('{"v1": {"errors": {"0": 1}}}', CloudInit(done=True)),
    ('{"v1": []}', CloudInit(done=True)),
    ('{"other": 1}', CloudInit(done=True)),
    ("[1]", CloudInit(done=False)),
    ("{}", CloudInit(done=False)),
    ('{"v1": {"err', CloudInit(done=False)),
    ("[" * 200_000, CloudInit(done=False)),
    ('{"a":' * 200_000, CloudInit(done=False)),
    ('\n{"v1": {"stage": "modules-config"}}', CloudInit(done=False, stage="modules-config")),
    ('\n{"v1": {"stage": null}}', CloudInit(done=False)),
    ('\n{"v1": {"stage": 3}}', CloudInit(done=False)),
    ('\n{"v1": null}', CloudInit(done=False)),
    ("\n[1]", CloudInit(done=False)),
    ("\nhalf a fi", CloudInit(done=False)),
    ("\n" + "[" * 200_000, CloudInit(done=False)),
]


@pytest.mark.parametrize(("answer", "expected"), FILES, ids=range(len(FILES)))
def test_cloud_inits_files_are_read(answer: str, expected: CloudInit) -> None:
    """A result file ends the wait, with its first error if it has one. The status file names the stage."""
    assert read_cloud_init(answer) == expected


@given(
    st.text()
    | st.recursive(
        st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    ).map(json.dumps)
)
def test_no_answer_of_cloud_init_breaks_the_wait(answer: str) -> None:
    """Any text and any JSON are either "not yet" or a finished state, never a crash."""
    for text in (answer, "\n" + answer):
        found = read_cloud_init(text)
        assert isinstance(found.error, str)
        assert isinstance(found.stage, str)
