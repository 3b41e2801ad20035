"""The page of `inv status` in a real browser: on a phone and on a desk, in the light and in the dark."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from swarm import history
from swarm.fleet.actions import actions
from swarm.fleet.page import page
from swarm.fleet.status import Inside
from tests.conftest import Dirs
from tests.status_cases import HOSTILE, NOW, remember, troubled, well

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

_BROWSER, _DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
_LONG = "a" * 63

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (_BROWSER.exists() and _DRIVER.exists()),
        reason="chromium or its driver is not installed: apt-get install chromium chromium-driver",
    ),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A headless Chromium with a profile of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(_BROWSER)
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(_DRIVER)))
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="module")
def file(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A page of hosts that are well, in trouble, hostile, and long-winded."""
    with pytest.MonkeyPatch.context() as patch:
        assert Dirs.make(base / "page", patch)
        remember("ant")
        name = HOSTILE.replace("/", "")
        history.append(name, "backup", at=NOW, result=HOSTILE, stored=5, seconds=5)
        hosts = [
            well(), troubled(), replace(troubled(name), drift=HOSTILE, inside=Inside(HOSTILE, "ready")),
            replace(troubled(_LONG), drift=f"/{_LONG}{_LONG}"), well("running-a-long-name-here"),
        ]  # fmt: skip
        todo = [each for host in hosts for each in actions(host)]
        path = tmp_path_factory.mktemp("page") / "status.html"
        path.write_text(page(hosts, [HOSTILE, "gone"], todo, NOW, litellm=False), encoding="utf-8")
        yield path


def show(browser: Chrome, file: Path, width: int, scheme: str = "light") -> None:
    """Open the page in a window of this width, as a phone does if it is narrow."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(file.as_uri())


def ask(browser: Chrome, script: str) -> Any:  # noqa: ANN401 - whatever the script returns
    """Return what JavaScript finds out about the page."""
    return browser.execute_script(f"return {script}")


def log(browser: Chrome) -> list[dict[str, Any]]:
    """Return what the console has shown since the last call."""
    found: list[dict[str, Any]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1125, 1280])
def test_nothing_is_wider_than_the_window(browser: Chrome, file: Path, width: int, scheme: str) -> None:
    """On a phone, a tablet and a desk the page never scrolls sideways, and the console stays silent."""
    show(browser, file, width, scheme)
    # The table's head is hidden on a phone, where each cell has its label.
    # A page that is too wide for a phone makes the phone zoom out, which also widens innerWidth.
    assert ask(browser, "[document.documentElement.scrollWidth <= innerWidth, innerWidth]") == [True, width]
    elements = "[...document.querySelectorAll('main *:not(thead *)')]"
    assert (
        ask(browser, f"{elements}.filter(e => e.getBoundingClientRect().right > innerWidth + 1).length") == 0
    )
    assert log(browser) == []


def test_hostile_data_is_inert(browser: Chrome, file: Path) -> None:
    """Markup in names and facts is shown as text: no element and no title is made of it."""
    show(browser, file, 1280)
    assert ask(browser, "document.querySelectorAll('script, img, a, iframe').length") == 0
    assert browser.title.startswith("swarm: ")
    assert HOSTILE in ask(browser, "document.body.innerText")


def test_a_script_that_got_in_would_not_run(browser: Chrome, file: Path, tmp_path: Path) -> None:
    """The page's policy stops a script and an image, should one ever get in."""
    worse = tmp_path / "worse.html"
    inserted = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    worse.write_text(
        file.read_text(encoding="utf-8").replace("<main>", f"<main>{inserted}"), encoding="utf-8"
    )
    show(browser, worse, 1280)
    assert browser.title.startswith("swarm: ")
    assert any("Content Security Policy" in each["message"] for each in log(browser))


def test_light_and_dark_have_enough_contrast(browser: Chrome, file: Path) -> None:
    """All text has the contrast of WCAG AA, 4.5 to 1, in both color schemes, and the schemes differ."""
    worst = {}
    for scheme in ("light", "dark"):
        show(browser, file, 1280, scheme)
        worst[scheme] = ask(browser, _CONTRAST)
    assert all(each["ratio"] >= 4.5 for each in worst.values()), worst
    assert worst["light"]["page"] != worst["dark"]["page"]


def test_the_table_can_be_read_aloud(browser: Chrome, file: Path) -> None:
    """On a phone, too, the table is a table with headers for a screen reader, and each chart has a label."""
    from selenium.webdriver.common.by import By

    show(browser, file, 360)
    table = browser.find_element(By.CSS_SELECTOR, "table")
    assert (table.aria_role, table.accessible_name) == ("table", "Hosts")
    cells = browser.find_elements(By.CSS_SELECTOR, "tbody tr:first-child > *")
    roles = [each.aria_role for each in cells if each.is_displayed()]
    assert (roles[0], set(roles[1:])) == ("rowheader", {"cell"})
    assert browser.find_element(By.CSS_SELECTOR, "thead th").aria_role == "columnheader"
    charts = browser.find_elements(By.CSS_SELECTOR, "svg")
    assert charts
    assert all(each.accessible_name for each in charts)


# The lowest contrast of any text with the nearest background that is not transparent, by WCAG's formula.
_CONTRAST = """(() => {
  const parse = text => text.match(/[0-9.]+/g).map(Number);
  const light = color => {
    const [r, g, b] = parse(color).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if (parse(color).length === 3 || parse(color)[3] === 1) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  let worst = {ratio: 99};
  for (const element of document.querySelectorAll('main, main *:not(svg, svg *)')) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [one, two] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < worst.ratio) worst = {ratio, text: element.textContent.slice(0, 40)};
  }
  return {...worst, page: getComputedStyle(document.body).backgroundColor};
})()"""
