"""What is rendered: unknown names are errors, XML is escaped, nothing else is."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest
from jinja2 import Environment, StrictUndefined, Undefined, UndefinedError, meta

from swarm import templates
from swarm.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "templates"

_SUBNET = IPv4Network("192.168.122.0/24")


def takes_values(path: Path) -> bool:
    """Whether a template names any value."""
    return bool(
        meta.find_undeclared_variables(
            templates.environment(escape=False).parse(path.read_text(encoding="utf-8"))
        )
    )


NAMES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.j2") if takes_values(path))


@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_was_not_given_is_an_error(name: str) -> None:
    """No template turns a missing value into nothing: a forgotten path or key must not become an empty one."""
    with pytest.raises(
        (UndefinedError, TypeError)
    ):  # TypeError: what was not given cannot be written as JSON either
        templates.render(name)


def test_xml_is_escaped() -> None:
    """In XML a value can be no markup."""
    assert "<name>&lt;a&gt; &amp; &#34;b&#34;</name>" in templates.render(
        "network.xml.j2", name='<a> & "b"', subnet=_SUBNET
    )


def test_yaml_is_not_escaped() -> None:
    """Outside XML a value stays what it is: escaping would turn a quote into an entity."""
    rendered = templates.render("seed/meta-data.j2", instance="a&b", vm={"hostname": "zap"})
    assert "&amp;" not in rendered


def test_templates_are_found_wherever_the_program_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """The templates belong to the project, not to the current folder."""
    monkeypatch.chdir("/")
    assert templates.render("network.xml.j2", name="default", subnet=_SUBNET).startswith("<network>")


def test_strict_is_what_makes_the_difference() -> None:
    """Jinja's own default would render the same mistake as nothing; this pins down why the strict kind is asked for."""
    loose = Environment(undefined=Undefined, autoescape=True).from_string("[{{ missing }}]")
    assert loose.render() == "[]"
    assert templates.environment(escape=True).undefined is StrictUndefined
