"""One HTTP session with the proxy. Everything it answers is bounded, and its errors never show a secret."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Self

from swarm.errors import RemoteError
from swarm.litellm.reasons import ApiError, api_error, unanswered

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["LISTING", "Session"]

JSON = Any  # whatever an answer holds

LISTING = 512 * 1024 * 1024  # bytes of a list; 10,000 models have 86 MB
_ANSWER = 1024 * 1024  # bytes of any other answer
_CHUNK = 1024 * 1024  # bytes that are read at once
_TIMEOUT = 60.0  # seconds without a byte; an addition to 1,000 models takes 0.4


class Session:
    """A session with the proxy at `url`. `reads` and `writes` count the requests.

    The `key` and the `secrets` are replaced by *** in error messages.
    """

    def __init__(
        self, url: str, key: str, secrets: Collection[str] = (), *, timeout: float = _TIMEOUT
    ) -> None:
        import requests

        self.url, self.timeout = url.rstrip("/"), timeout
        self.reads = self.writes = 0
        self._secrets = sorted({*secrets, key} - {""}, key=len, reverse=True)
        self._session = requests.Session()
        # No proxy from the environment is asked for loopback, and no ~/.netrc may replace the key.
        self._session.trust_env = False
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self._session.headers["Authorization"] = f"Bearer {key}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def read(self, what: str, path: str, limit: int = _ANSWER) -> dict[str, Any]:
        """Return the object at `path`. `what` says for messages what is requested. Raise RemoteError."""
        answer = self.request("GET", what, path, limit=limit)
        if not isinstance(answer, dict):
            raise self.malformed(what)
        return answer

    def write(self, method: str, what: str, path: str, body: object = None) -> None:
        """Send a request that changes something. Raise ApiError or Unanswered."""
        self.request(method, what, path, body)

    def request(self, method: str, what: str, path: str, body: object = None, limit: int = _ANSWER) -> JSON:
        """Send a request and return the JSON of its answer. Raise RemoteError."""
        with self._answer(method, what, path, body) as answer:
            data = self._bytes(what, answer, limit)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self.malformed(what) from None

    def body(self, what: str, path: str, limit: int = LISTING) -> bytearray | bytes:
        """Return the body at `path`, which is held in memory once. Raise RemoteError."""
        with self._answer("GET", what, path) as answer:
            size = int(answer.headers.get("Content-Length") or -1)
            if size < 0 or answer.headers.get("Content-Encoding"):
                return self._bytes(what, answer, limit)
            if size > limit:
                raise self._too_long(what, limit)
            data, filled = bytearray(size), 0
            with memoryview(data) as view:
                while filled < size:
                    try:
                        count = answer.raw.readinto(view[filled : filled + _CHUNK])
                    except Exception as error:  # noqa: BLE001 - raised again
                        raise self._broken(what, error) from None
                    if not count:
                        raise self.malformed(what)
                    filled += count
        return data

    def _answer(self, method: str, what: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - a response
        import requests

        if method == "GET":
            self.reads += 1
        else:
            self.writes += 1
        try:
            answer = self._session.request(
                method, self.url + path, json=body, timeout=self.timeout, stream=True, allow_redirects=False
            )
        # urllib3 raises ValueError for some names of hosts.
        except (requests.RequestException, ValueError) as error:
            raise unanswered(what, self.url, error, self.timeout) from None
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP's "OK", the only success that the API has
            raise self._error(what, answer)
        return answer

    def _error(self, what: str, answer: Any) -> ApiError:  # noqa: ANN401 - requests.Response
        with answer:
            data = self._bytes(what, answer, _ANSWER)
        kind, text = "", data[:2000].decode("utf-8", "replace")
        try:
            error = json.loads(data)
            error = error.get("error", error.get("detail", error))
            if isinstance(error, dict):
                kind, text = (
                    str(error.get("type") or ""),
                    str(error.get("message") or error.get("error") or error),
                )
            else:
                text = str(error)
        except (ValueError, AttributeError, RecursionError):
            pass  # not JSON: its text is all there is
        return api_error(what, answer.status_code, kind, self._masked(text))

    def _bytes(self, what: str, answer: Any, limit: int) -> bytes:  # noqa: ANN401 - requests.Response
        try:
            data: bytes = answer.raw.read(limit + 1, decode_content=True)
        except Exception as error:  # noqa: BLE001 - raised again
            raise self._broken(what, error) from None
        if len(data) > limit:
            raise self._too_long(what, limit)
        return data

    def _too_long(self, what: str, limit: int) -> RemoteError:
        return RemoteError(f"{what}: LiteLLM's answer exceeds {limit // (1024 * 1024)} MiB")

    def _broken(self, what: str, error: Exception) -> Exception:
        """Return the error for a stream that broke off. What is no error of urllib3 is returned as it is."""
        if isinstance(error, OSError) or type(error).__module__.startswith("urllib3"):
            return unanswered(what, self.url, error, self.timeout)
        return error

    def malformed(self, what: str) -> RemoteError:
        """Return the error for an answer that LiteLLM would not give."""
        return RemoteError(
            f"{what}: {self.url} does not answer as LiteLLM does",
            "check LITELLM_URL and the port in litellm/.env",
        )

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text
