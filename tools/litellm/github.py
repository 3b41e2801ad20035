"""A fake GitHub that answers a device login as the real one does: a code first, then the token."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["CODE", "TOKEN", "GitHub"]

CODE, TOKEN = "ABCD-1234", "gho_planted-token-of-a-login"
_IP_FREEBIND = 15  # of Linux; Python has no name for it yet


class GitHub:
    """A server at `address`, which this computer need not have yet. `logins` counts the codes that it has given."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.logins, self.refuse = 0, False
        github = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                answer: dict[str, object] = {"access_token": TOKEN, "token_type": "bearer"}
                if self.path.endswith("/code"):
                    github.logins += 1
                    place = "https://github.com/login/device"
                    answer = {"device_code": "d", "user_code": CODE, "verification_uri": place, "interval": 5}
                data = json.dumps(answer).encode()
                self.send_response(503 if github.refuse else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler, bind_and_activate=False)
        self._server.socket.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        self._server.server_bind()
        self._server.server_activate()
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://{address}:{self._server.server_address[1]}"

    @property
    def variables(self) -> dict[str, str]:
        """What leads LiteLLM's login here."""
        return {
            "GITHUB_COPILOT_DEVICE_CODE_URL": f"{self.url}/login/device/code",
            "GITHUB_COPILOT_ACCESS_TOKEN_URL": f"{self.url}/login/oauth/access_token",
        }

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
