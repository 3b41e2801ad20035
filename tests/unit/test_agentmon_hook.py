"""The steps of `inv hook.deploy` as data, and what becomes of an .env file."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.agentmon import hook
from swarm.agentmon.hook import LOADED, gateway, restored, steps, variables, with_variables
from swarm.errors import Refused
from swarm.guest.engine.difference import plan, secrets_of
from swarm.guest.kinds.parts import sha256
from swarm.inventory import AgentmonSettings
from tests.unit.steps import named, settings

if TYPE_CHECKING:
    from pathlib import Path

    from swarm.guest.engine.step import Step

FILES = {"HOOK.md": "# agentmon\n", "handler.ts": "export {}\n", "lib/a.ts": "", "plugin/index.ts": "x\n"}
WANTED = {
    "AGENTMON_INGEST_URL": "http://box:8080",
    "AGENTMON_VM_NAME": "zap",
    "AGENTMON_TOKEN": "kestrel-4711",
}
ENV = "variables in /home/openclaw/.openclaw/.env"
CONFIG = "hook and plugin agentmon in openclaw.json"


def made(**values: Any) -> list[Step]:
    """Return all steps."""
    return steps(settings(**values), WANTED, FILES, 20_001)


def agentmon(**values: Any) -> AgentmonSettings:
    """Return the section of a host file."""
    return AgentmonSettings.model_validate({"url": "http://box:8080", **values})


def test_files_belong_to_the_user() -> None:
    """Each file is written by the OpenClaw user into real folders, the folders first."""
    found = made(user="zed")
    home = "/home/zed/.openclaw/hooks"
    folders = [f"folder {home}{each}" for each in ("", "/agentmon", "/agentmon/lib", "/agentmon/plugin")]
    assert [step.subject for step in found[:4]] == folders
    for name, text in FILES.items():
        step = named(found, f"file {home}/agentmon/{name}")
        assert (step.reader, set(step.after)) == ("zed", set(folders))
        assert step.apply(f"file 644 zed zed {sha256(text)}") is None
        assert step.apply(f"file 600 zed zed {sha256(text)}")
        assert step.apply(f"file 644 root root {sha256(text)}")


def test_a_link_in_place_of_the_folder_is_refused() -> None:
    """OpenClaw ignores a linked folder of a hook, so one is not written through."""
    step = named(made(), "folder /home/openclaw/.openclaw/hooks/agentmon")
    assert step.refuse("other") == "/home/openclaw/.openclaw/hooks/agentmon exists, but is not a folder"


def test_leftovers_are_removed() -> None:
    """A file of an earlier version is removed, and nothing outside of the folder, whatever its name says."""
    step = named(made(), "leftovers in /home/openclaw/.openclaw/hooks/agentmon")
    assert step.apply("\n".join(FILES)) is None
    assert step.apply("lib/../../../.env") is None
    script = step.apply("handler.ts\nhandler.js")
    assert script
    assert "rm -f -- /home/openclaw/.openclaw/hooks/agentmon/handler.js" in script
    assert "handler.ts" not in script


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "AGENTMON_INGEST_URL=http://new:1\nAGENTMON_VM_NAME=zap\n"),
        ("A=1", "A=1\nAGENTMON_INGEST_URL=http://new:1\nAGENTMON_VM_NAME=zap\n"),
        (
            (
                "# keys\nexport AGENTMON_VM_NAME = old\nOPENAI_API_KEY='x y'\n"
                "AGENTMON_INGEST_URL=http://old\nAGENTMON_VM_NAME=2\n"
            ),
            "# keys\nAGENTMON_VM_NAME=zap\nOPENAI_API_KEY='x y'\nAGENTMON_INGEST_URL=http://new:1\n",
        ),
        (
            "AGENTMON_CONTENT=1\nAGENTMON_TOKEN=old\nAGENTMON_HOST=mine\nAGENTMON_SPOOL_MB=9\n",
            "AGENTMON_HOST=mine\nAGENTMON_SPOOL_MB=9\nAGENTMON_INGEST_URL=http://new:1\nAGENTMON_VM_NAME=zap\n",
        ),
        (
            "A='x\u2028y\x85z\x0c'\r\nAGENTMON_VM_NAME=2\r\n\nB=1",
            "A='x\u2028y\x85z\x0c'\r\nAGENTMON_VM_NAME=zap\n\nB=1\nAGENTMON_INGEST_URL=http://new:1\n",
        ),
    ],
)
def test_lines_of_env(before: str, after: str) -> None:
    """Own lines are replaced in place or appended, those no longer wanted are removed, others' lines are kept."""
    wanted = {"AGENTMON_INGEST_URL": "http://new:1", "AGENTMON_VM_NAME": "zap"}
    assert with_variables(before, wanted) == after
    assert with_variables(after, wanted) == after


@given(st.text())
def test_env_settles_after_one_change(before: str) -> None:
    """Whatever the file holds, a second run finds nothing to change."""
    once = with_variables(before, WANTED)
    assert with_variables(once, WANTED) == once


@pytest.mark.parametrize("token", ["plain", "a#b", 'a"b$c`d', "a\\nb"])
def test_node_reads_the_token_as_it_is(token: str, tmp_path: Path) -> None:
    """Node's own parser of .env files, with which OpenClaw's agrees, reads exactly the token."""
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed")
    path = tmp_path / ".env"
    path.write_text(with_variables("", {"AGENTMON_TOKEN": token}))
    parsed = "require('node:util').parseEnv(require('node:fs').readFileSync(process.argv[1], 'utf8'))"
    program = f"console.log(JSON.stringify({parsed}))"
    done = subprocess.run([node, "-e", program, str(path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"AGENTMON_TOKEN": token}


def test_env_is_private() -> None:
    """The file with the token gets mode 600, also if its lines are right already."""
    step = named(made(), ENV)
    right = with_variables("", WANTED)
    assert step.apply(f"file 600 openclaw openclaw none\n{right}") is None
    assert step.apply(f"file 644 openclaw openclaw none\n{right}")
    assert step.apply("absent")


def test_no_secret_is_shown() -> None:
    """The plan shows neither the token nor any other line of .env."""
    found = made()
    facts = {step.subject: "absent" for step in found}
    facts[ENV] = "file 644 openclaw openclaw none\nOPENAI_API_KEY=sk-falcon\nAGENTMON_TOKEN=osprey\n"
    shown = json.dumps(plan("zap", found, facts).to_json())
    assert ENV in shown
    for secret in ("kestrel", "falcon", "osprey"):
        assert secret not in shown
    assert secrets_of(found) == ("kestrel-4711",)


def test_everything_in_place_changes_nothing() -> None:
    """If each thing is as wanted, the plan is empty, so the gateway is not restarted."""
    found = made()
    facts = {
        CONFIG: "done",
        hook.SUBJECT: LOADED,
        ENV: "file 600 openclaw openclaw none\n" + with_variables("", WANTED),
    }
    for step in found:
        if step.subject.startswith("folder "):
            facts[step.subject] = "directory 755 openclaw openclaw"
        elif step.subject.startswith("file "):
            text = FILES[step.subject.partition("/agentmon/")[2]]
            facts[step.subject] = f"file 644 openclaw openclaw {sha256(text)}"
        elif step.subject.startswith("leftovers"):
            facts[step.subject] = "\n".join(FILES)
    assert not plan("zap", found, facts)
    facts[CONFIG] = "due"
    assert [change.subject for change in plan("zap", found, facts)] == [CONFIG, hook.SUBJECT]


def test_the_configuration_is_changed_by_openclaw_itself() -> None:
    """One write enables the hook and the plugin with access to conversations, after the plugin was linked."""
    script = named(made(), CONFIG).apply("due") or ""
    install, patch = (
        script.index("openclaw plugins install --link"),
        script.index("openclaw config patch --stdin"),
    )
    assert install < patch
    assert "--force --accept-capabilities" in script
    data, _ = json.JSONDecoder().raw_decode(script, script.index('{"hooks"'))
    assert data == {
        "hooks": {"internal": {"enabled": True, "entries": {"agentmon": {"enabled": True}}}},
        "plugins": {"entries": {"agentmon": {"enabled": True, "hooks": {"allowConversationAccess": True}}}},
    }
    assert script.startswith("rm -f /var/lib/swarm/loaded/agentmon\n")


def test_a_gateway_is_led_here_until_it_is_restored() -> None:
    """The restart is due unless the gateway is loaded or is led to this very port. What ends that needs no restart."""
    step, forced = (gateway(settings(), FILES, 20_001, force=force) for force in (False, True))
    assert step.apply(LOADED) is None
    assert forced.apply(LOADED)
    for each in (step, forced):
        assert each.apply("tapped 20001") is None
        assert each.apply("outdated")
        assert each.apply("tapped 20002")  # of a run that was killed
    proved, failed = (restored(settings(), FILES, proved=proved) for proved in (True, False))
    assert "put /var/lib/swarm/loaded/agentmon" in (proved.apply("tapped 20001") or "")
    assert "put /var/lib/swarm/loaded/agentmon" not in (failed.apply("tapped 20001") or "")
    for each in (proved, failed):
        script = each.apply("tapped 20001") or ""
        assert 'rm -f "$XDG_RUNTIME_DIR/agentmon-receiver"' in script
        assert "systemctl" not in script
    assert failed.apply("outdated") is None
    assert proved.apply(LOADED) is None


@pytest.mark.parametrize(
    ("config", "fact"),
    [
        ("", "due"),
        ("{}", "due"),
        ('{"plugins": {"load": {"paths": 5}}}', "due"),
        (None, "due"),
        (
            {
                "hooks": {"internal": {"enabled": True, "entries": {"agentmon": {"enabled": True}}}},
                "plugins": {
                    "load": {"paths": ["/x", "@/hooks/agentmon/plugin"]},
                    "entries": {"agentmon": {"enabled": True, "hooks": {"allowConversationAccess": True}}},
                },
            },
            "done",
        ),
    ],
)
def test_the_configuration_is_read_with_jq(config: object, fact: str, tmp_path: Path) -> None:
    """The probe finds what is enabled, whatever openclaw.json holds. An unreadable one counts as due."""
    if not shutil.which("jq"):
        pytest.skip("jq is not installed")
    probe = named(made(), CONFIG).probe.replace("/home/openclaw/.openclaw", str(tmp_path))
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config).replace("@", str(tmp_path))
        (tmp_path / "openclaw.json").write_text(text)
    done = subprocess.run(["sh", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [fact] if fact == "done" else done.stdout.strip() != "done"


def test_variables_follow_the_section(monkeypatch: pytest.MonkeyPatch) -> None:
    """The section's values become the hook's variables. Content is off unless it is asked for."""
    monkeypatch.setenv("MY_TOKEN", "kestrel")
    assert variables(agentmon(), "zap") == {
        "AGENTMON_INGEST_URL": "http://box:8080",
        "AGENTMON_VM_NAME": "zap",
        "AGENTMON_BATCH": "single",
    }
    assert variables(agentmon(vm_name="claw", batch="ndjson", content=True, token_env="MY_TOKEN"), "zap") == {
        "AGENTMON_INGEST_URL": "http://box:8080",
        "AGENTMON_VM_NAME": "claw",
        "AGENTMON_BATCH": "ndjson",
        "AGENTMON_CONTENT": "1",
        "AGENTMON_TOKEN": "kestrel",
    }


@pytest.mark.parametrize("token", ["", "two words", "it's", "line\nbreak", "ü"])
def test_a_token_that_cannot_be_sent_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or unusable token is refused before anything is changed, and the message does not hold it."""
    monkeypatch.setenv("MY_TOKEN", token)
    with pytest.raises(Refused, match=r"^agentmon\.token_env: ") as refused:
        variables(agentmon(token_env="MY_TOKEN"), "zap")
    assert not token or token not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "box:8080",
        "ftp://box",
        "http://",
        "http://user:pw@box",
        "http://box:99999",
        "http://[::1",
        "http://b ox",
        "http://b'x",
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    """The host file's URL is checked when it is read."""
    with pytest.raises(ValueError, match=r"expected "):
        agentmon(url=url)
