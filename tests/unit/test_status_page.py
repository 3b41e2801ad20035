"""The page of `inv status`: self-contained, and inert whatever its data says."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from swarm import history
from swarm.fleet.actions import Action, actions
from swarm.fleet.page import page
from swarm.fleet.status import Inside
from tests.status_cases import HOSTILE, NOW, remember, troubled, well

pytestmark = pytest.mark.usefixtures("dirs")


class Elements(HTMLParser):
    """Collects the elements, their attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data


def test_hostile_data_is_text() -> None:
    """Markup in the data of a host, an action or the history becomes text, never an element."""
    history.append(HOSTILE.replace("/", ""), "backup", at=1, result=HOSTILE, stored=5, seconds=5)
    hostile = replace(troubled(HOSTILE.replace("/", "")), drift=HOSTILE, inside=Inside(HOSTILE, "ready"))
    text = page([hostile], [HOSTILE], [*actions(hostile), Action(HOSTILE, HOSTILE, HOSTILE)], NOW)
    found = Elements(text)
    assert not {"script", "img", "iframe", "object", "link", "a", "form"} & {tag for tag, _ in found.tags}
    assert HOSTILE in found.text
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on") or name == "style"]


def test_nothing_is_loaded_from_elsewhere() -> None:
    """No element refers to another file, and the policy forbids all but the style that is in the page."""
    remember("ant")
    text = page([well()], [], [], NOW)
    found = Elements(text)
    assert not [
        name for _, attrs in found.tags for name in attrs if name in {"src", "href", "srcset", "data"}
    ]
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_control_characters_are_shown() -> None:
    """Bidirectional overrides and control characters can't change how a line reads."""
    text = page([], [], [Action("zap", "evil\u202e\x1b[2J", "./inv")], NOW)
    assert r"evil\u202e\x1b[2J" in text
    assert "\u202e" not in text


def test_what_to_do_is_listed() -> None:
    """The page says what to do with the command, and that nothing is to be done where that is so."""
    text = Elements(page([troubled()], [], actions(troubled()), NOW)).text
    assert "the last backup failed 3 h ago ./inv backup --host bee" in " ".join(text.split())
    assert "All is well" in Elements(page([well()], [], [], NOW)).text


def test_history_becomes_charts() -> None:
    """Each history has a chart with a label that says in words what the bars show."""
    remember("ant")
    found = Elements(page([well()], [], [], NOW))
    labels = [attrs["aria-label"] for tag, attrs in found.tags if tag == "svg"]
    assert labels == [
        "Size of the archives: last 773.0 MB, most 773.0 MB, 39 runs",
        "Duration of the backups: last 30 s, most 48 s, 40 runs",
        "Duration of provision: last 38 s, most 54 s, 5 runs",
        "Health: well at 58 of 60 looks, since 2026-09-19 02:13",
    ]
    assert sum(tag == "rect" for tag, _ in found.tags) == 39 + 40 + 5 + 60


@pytest.mark.parametrize("value", ["x", None, True, -1, 1e300, [1], {"a": 1}])
def test_a_damaged_value_has_no_bar(value: object) -> None:
    """A value in the history that is no usable number is left out of the charts."""
    history.append("ant", "backup", at=1, result=["odd"], stored=value, seconds=value)
    assert "<rect" not in page([well()], [], [], NOW)


@pytest.mark.parametrize("result", [["failure"], {"a": 1}, None])
def test_a_damaged_result_is_no_word(result: object) -> None:
    """A result that is no text, with usable numbers beside it, leaves the bar and adds no word to it."""
    history.append("ant", "backup", at=NOW, result=result, stored=5, seconds=5)
    assert ": 5 bytes</title>" in page([well()], [], [], NOW)
