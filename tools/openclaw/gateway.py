"""The gateway itself: OpenClaw from npm, installed once and cached, in a home directory of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from swarm.deadline import Deadline
from swarm.paths import ROOT
from tools.lab.process import LabError, tail
from tools.node import node
from tools.node import package as installed
from tools.openclaw import rpc
from tools.openclaw.provider import Provider
from tools.openclaw.telegram import USER, Telegram
from tools.seaweed import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["IDLE", "SECRETS", "VERSION", "Gateway", "package"]

VERSION = "2026.9.6"
IDLE = 60  # seconds after which OpenClaw resets a session by itself; it takes whole minutes
_WITHIN = 90.0  # seconds that a loaded machine may take for a reply
_READY = 240.0  # seconds until the gateway is ready; 10 to 40 are usual
_CALL = 120.0  # seconds for one call, of the command line too
_STOP = 90.0  # seconds; with work in flight a stop takes a minute
# What must never leave the gateway: the values of its configuration that are secret.
SECRETS = {
    "token": "planted-gateway-token",
    "key": "sk-planted-key",
    "bot": "123456:PLANTEDPLANTEDPLANTEDPLANTEDPLANT",
}


def package() -> Path:
    """Return the node_modules with OpenClaw, installed on first use. Its own scripts refuse an older Node."""
    return installed("openclaw", VERSION, path=str(node().parent))


class Gateway:
    """A gateway in `home` that talks to a fake provider and a fake Telegram.

    `hook` is the folder of a hook, and of its plugin half if it has one. None stands for a gateway without a hook.
    """

    def __init__(
        self,
        home: Path,
        variables: Mapping[str, str],
        hook: Path | None = ROOT / "hooks/agentmon",
    ) -> None:
        self.home, self.state, self.log = home, home / ".openclaw", home / "gateway.log"
        self.provider, self.telegram = Provider(), Telegram()
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        self._program = package() / ".bin/openclaw"
        path = f"{node().parent}:{os.environ['PATH']}"
        self._variables = {
            "PATH": path,
            "HOME": str(home),
            "TMPDIR": str(home),
            # Shared by all, so that only the first of them compiles OpenClaw.
            "NODE_COMPILE_CACHE": str(package().parent / "compiled"),
            "NO_COLOR": "1",
            "LANG": "C.UTF-8",
        }
        self.state.mkdir(mode=0o700)
        if hook:
            shutil.copytree(hook, self.state / "hooks/agentmon")
        self.set_variables(variables)
        self._write(self._config())
        if self.plugin.is_dir():
            self.call("plugins", "install", "--link", str(self.plugin), "--force", "--accept-capabilities")
            entry = {"enabled": True, "hooks": {"allowConversationAccess": True}}
            self.configure(plugins={"allow": ["telegram", "agentmon"], "entries": {"agentmon": entry}})

    def set_variables(self, variables: Mapping[str, str]) -> None:
        """Replace ~/.openclaw/.env, which is read at the next start."""
        _private(self.state / ".env", "".join(f"{name}={value}\n" for name, value in variables.items()))

    def configure(self, **sections: dict[str, Any]) -> None:
        """Change keys in sections of the configuration of a gateway that does not run."""
        config = json.loads((self.state / "openclaw.json").read_text(encoding="utf-8"))
        for name, section in sections.items():
            config[name] = config.get(name, {}) | section
        self._write(config)

    @property
    def plugin(self) -> Path:
        """The folder of the plugin half."""
        return self.state / "hooks/agentmon/plugin"

    @property
    def spool(self) -> list[Path]:
        """The segments that wait for delivery."""
        return sorted((self.state / "agentmon").glob("*.log"))

    def start(self) -> None:
        """Start it and wait until it is ready. Raise LabError with the end of its log."""
        self.stop(signal.SIGKILL)  # one that a test which failed has left
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "gateway", "run"], env=self._variables, cwd=self.home, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = Deadline(_READY)
        while not self.ready():
            if self._process.poll() is not None or not deadline.pause(0.25):
                raise LabError(f"the gateway is not ready: {self.said()}")

    def ready(self) -> bool:
        """Return whether it is ready."""
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200  # noqa: PLR2004
        except requests.RequestException:
            return False

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def peak(self) -> int:
        """The most memory that it has had in RAM, in bytes, as the kernel counts it (VmHWM)."""
        assert self._process is not None  # noqa: S101 - it was started
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii", errors="replace")
        return int(re.findall(r"^VmHWM:\s+([0-9]+) kB$", status, re.MULTILINE)[0]) * 1024

    def forget_peak(self) -> None:
        """Let `peak` start anew from the memory that it has now."""
        assert self._process is not None  # noqa: S101 - it was started
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5", encoding="ascii")  # proc(5)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, by default as systemd does."""
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, how)
            try:
                self._process.wait(_STOP)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._process = None

    def call(self, *words: str) -> str:
        """Run `openclaw` and return what it prints. Raise LabError."""
        done = subprocess.run(
            [self._program, *words], env=self._variables, cwd=self.home, capture_output=True, text=True,
            timeout=_CALL, check=False,
        )  # fmt: skip
        if done.returncode:
            raise LabError(f"openclaw {words[0]} failed: {tail(done.stderr or done.stdout)}")
        return done.stdout

    def rpc(self, method: str, **params: object) -> dict[str, Any]:
        """Call one of the gateway's methods, and return its result. Raise LabError."""
        return rpc.call(self.port, SECRETS["token"], method, params, _CALL)

    def ask(self, text: str) -> float:
        """Send a message on Telegram, and return the seconds until the reply. Raise LabError."""
        before, start = len(self.telegram.sent), time.monotonic()
        self.telegram.say(text)
        self.until(f"a reply to {text}", lambda: len(self.telegram.sent) > before, pause=0.02)
        return self.telegram.times[before] - start

    def until(self, what: str, found: Callable[[], object], pause: float = 0.2) -> None:
        """Wait until `found` returns something true. Raise LabError with the end of the log if it takes too long."""
        deadline = Deadline(_WITHIN)
        while not found():
            if not deadline.pause(pause):
                raise LabError(f"{what} did not happen: {self.said()}")

    def said(self) -> str:
        """Return the end of the gateway's log."""
        return tail(self.log.read_text(encoding="utf-8", errors="replace"), 30)

    def close(self) -> None:
        """End everything."""
        self.stop(signal.SIGKILL)
        self.provider.close()
        self.telegram.close()

    def _write(self, config: dict[str, Any]) -> None:
        _private(self.state / "openclaw.json", json.dumps(config))

    def _config(self) -> dict[str, Any]:
        model = {
            "id": "fake-1", "name": "fake-1", "contextWindow": 128000, "maxTokens": 4096, "input": ["text"],
            "reasoning": False, "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
        }  # fmt: skip
        fake = {
            "baseUrl": self.provider.url, "api": "openai-completions", "apiKey": SECRETS["key"], "models": [model]
        }  # fmt: skip
        auth = {"mode": "token", "token": SECRETS["token"]}
        telegram = {
            "enabled": True, "botToken": SECRETS["bot"], "apiRoot": self.telegram.url, "dmPolicy": "allowlist",
            "allowFrom": [str(USER)],
        }  # fmt: skip
        return {
            "gateway": {"mode": "local", "bind": "loopback", "port": self.port, "auth": auth},
            "telemetry": {"enabled": False},
            "update": {"checkOnStart": False},
            "plugins": {"allow": ["telegram"]},
            "agents": {
                "defaults": {
                    "workspace": "~/.openclaw/workspace",
                    "model": {"primary": "fake/fake-1"},
                    "heartbeat": {"every": "0m"},
                    "compaction": {"keepRecentTokens": 1},  # so that a short session can be compacted
                }
            },
            "tools": {"toolSearch": False},  # the fake provider names tools without a search for them
            "session": {"reset": {"mode": "idle", "idleMinutes": IDLE // 60}},
            "models": {"mode": "replace", "providers": {"fake": fake}},
            "channels": {"telegram": telegram},
            "hooks": {"internal": {"enabled": True, "entries": {"agentmon": {"enabled": True}}}},
        }


def _private(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
