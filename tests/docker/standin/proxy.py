"""A stand-in for LiteLLM: the two health requests, answered from the real database."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys


def sql(text: str) -> str:
    """Run a statement in the database. Raise CalledProcessError."""
    command = ["psql", "-qAt", "-v", "ON_ERROR_STOP=1", os.environ["DATABASE_URL"], "-c", text]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=5).stdout.strip()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as LiteLLM does."""

    def do_GET(self) -> None:
        """Answer liveliness always, readiness by the database."""
        if self.path == "/health/liveliness":
            self._send(200, "I'm alive!")
            return
        try:
            sql("select 1")
            self._send(200, {"status": "healthy", "db": "connected"})
        except subprocess.SubprocessError:
            self._send(503, {"status": "healthy", "db": "disconnected"})

    def log_message(self, *_: object) -> None:
        """Log no request: the health checks would fill the log."""

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # process 1 of a container ignores it otherwise
    sys.stderr.write(f"starting with {os.environ['LITELLM_MASTER_KEY']}\n")
    sql("select count(*) from migrated")  # fails unless litellm-migrate has run
    http.server.ThreadingHTTPServer(("0.0.0.0", 4000), Handler).serve_forever()  # noqa: S104 - in a container
