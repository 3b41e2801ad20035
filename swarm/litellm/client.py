"""The proxy's API: one method for each request that swarm makes.

Rows are read one by one, so that a long list needs little memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from swarm.errors import RemoteError
from swarm.litellm.reasons import ApiError, api_error, unanswered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from swarm.litellm.environment import Environment

__all__ = ["Client", "Credential", "Health", "Row", "client"]

# Keys of model_info that differ between two copies of one deployment. LiteLLM Enterprise adds who and when.
VOLATILE = {"id", "db_model", "created_at", "updated_at", "created_by", "updated_by", "swarm", "blocked"}
# Keys of model_info that every row keeps. The other 300, most of which LiteLLM merges from its price list, would need
# 8 KB a row.
KEPT = {"id", "db_model", "blocked", "swarm", "created_at", "description", "mode", "base_model", "team_id"}
_LISTING = 512 * 1024 * 1024  # bytes; 10,000 models have 86 MB
_ANSWER = 1024 * 1024  # bytes of any other answer
_TIMEOUT = 60.0  # seconds without a byte; an addition to 1,000 models takes 0.4
_HEALTH = 10.0  # seconds; readiness takes 3 while the database is down


@dataclass(frozen=True)
class Row:
    """One deployment, as /model/info shows it. `params` lacks secrets, `info` has the keys KEPT and those asked for.

    `digest` stands for the whole model_info, without what differs between copies.
    """

    id: str
    name: str
    params: Mapping[str, Any]
    info: Mapping[str, Any]
    from_db: bool
    digest: bytes = b""

    @property
    def blocked(self) -> bool:
        """Whether the router leaves it out."""
        return self.info.get("blocked") is True

    @property
    def provider_model(self) -> str:
        """The provider and its model: 'openai/gpt-5', or '' if it can't be read."""
        return str(self.params.get("model") or "")

    @property
    def credential(self) -> str:
        """The name of its credential, or ''."""
        return str(self.params.get("litellm_credential_name") or "")


@dataclass(frozen=True)
class Credential:
    """One credential. The API masks secret values, such as sk****89."""

    name: str
    values: Mapping[str, Any] = field(repr=False)
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Health:
    """The answer to one of the two health requests. `status` 0 means that there was none."""

    status: int
    body: Mapping[str, Any]
    error: str = ""


class Client:
    """A session with the proxy. `reads` and `writes` count the requests."""

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

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def rows(self, keys: Collection[str] = ()) -> list[Row]:
        """Return every deployment of the configuration file and of the database, in the API's order, in one request.

        `keys` are keys of model_info to keep in addition. Raise RemoteError.
        """
        keep = KEPT | set(keys)
        return [_row(entry, keep) for entry in self._items("list the models", "/model/info", "data")]

    def add_model(self, name: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Register a deployment under the id that `info` has. Raise ApiError or Unanswered."""
        body = {"model_name": name, "litellm_params": params, "model_info": info}
        self._write("POST", f"register {name}", "/model/new", body)

    def update_model(self, row_id: str, changes: Mapping[str, Any]) -> None:
        """Merge `changes` into a deployment of the database. The API can't remove a parameter."""
        self._write("PATCH", f"update {row_id}", f"/model/{quote(row_id, safe='')}/update", changes)

    def delete_model(self, row_id: str) -> bool:
        """Delete a deployment from the database. Return False if it does not exist."""
        try:
            self._write("POST", f"delete {row_id}", "/model/delete", {"id": row_id})
        except ApiError as error:
            if error.status in {400, 404} and "not found" in error.text:
                return False
            raise
        return True

    def masks(self, row_id: str) -> Mapping[str, Any] | None:
        """Return the secrets of a deployment as the API masks them, or None if it does not exist."""
        try:
            path = f"/credentials/by_model/{quote(row_id, safe='')}"
            answer = self._read(f"read the masked key of {row_id}", path)
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP's "not found"
                return None
            raise
        values = answer.get("credential_values")
        return values if isinstance(values, dict) else {}

    # ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────────

    def credentials(self) -> list[Credential]:
        """Return all credentials, in one request. Raise RemoteError."""
        answer = self._read("list the credentials", "/credentials", limit=_LISTING)
        found = answer.get("credentials")
        if not isinstance(found, list):
            raise self._malformed("list the credentials")
        return [_credential(entry) for entry in found if isinstance(entry, dict)]

    def add_credential(self, name: str, values: Mapping[str, str], info: Mapping[str, Any]) -> None:
        """Create a credential. Raise ApiError with status 409 if it exists."""
        body = {"credential_name": name, "credential_values": values, "credential_info": info}
        self._write("POST", f"create the credential {name}", "/credentials", body)

    def update_credential(self, name: str, values: Mapping[str, str], info: Mapping[str, Any]) -> None:
        """Merge values and info into a credential."""
        body = {"credential_name": name, "credential_values": values, "credential_info": info}
        self._write("PATCH", f"update the credential {name}", f"/credentials/{quote(name, safe='')}", body)

    def delete_credential(self, name: str) -> bool:
        """Delete a credential. Return False if it does not exist."""
        try:
            self._write("DELETE", f"delete the credential {name}", f"/credentials/{quote(name, safe='')}")
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 - as above
                return False
            raise
        return True

    # ── health and settings ──────────────────────────────────────────────────────────────────────────────────────────

    def health(self, which: str, limit: float = _HEALTH) -> Health:
        """Return the answer of /health/liveliness or /health/readiness, which call no model. Never raise."""
        import requests

        self.reads += 1
        try:
            with self._session.get(
                f"{self.url}/health/{which}", timeout=limit, stream=True, allow_redirects=False
            ) as answer:
                data = json.loads(answer.raw.read(_ANSWER, decode_content=True))
                return Health(answer.status_code, data if isinstance(data, dict) else {"text": data})
        except (requests.RequestException, OSError, ValueError, RecursionError) as error:
            return Health(0, {}, unanswered("health", self.url, error, limit).message)
        except Exception as error:
            if type(error).__module__.startswith("urllib3"):  # what its raw stream raises
                return Health(0, {}, unanswered("health", self.url, error, limit).message)
            raise

    def get(self, what: str, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the JSON at `path`. `what` says for messages what is requested. Raise RemoteError."""
        return self._request("GET", what, path)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, what: str, path: str, limit: int = _ANSWER) -> dict[str, Any]:
        answer = self._request("GET", what, path, limit=limit)
        if not isinstance(answer, dict):
            raise self._malformed(what)
        return answer

    def _write(self, method: str, what: str, path: str, body: object = None) -> None:
        self._request(method, what, path, body)

    def _request(self, method: str, what: str, path: str, body: object = None, limit: int = _ANSWER) -> Any:  # noqa: ANN401 - any JSON
        with self._answer(method, what, path, body) as answer:
            data = self._bytes(what, answer, limit)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self._malformed(what) from None

    def _items(self, what: str, path: str, key: str) -> Iterator[dict[str, Any]]:
        """Yield the objects in the list `key` of the answer while it arrives."""
        try:
            import ijson
        except ModuleNotFoundError:  # in LiteLLM's own image, which has only what LiteLLM needs
            entries = self._request("GET", what, path, limit=_LISTING).get(key)
            yield from (entry for entry in entries or () if isinstance(entry, dict))
            return
        with self._answer("GET", what, path) as answer:
            stream = _Limited(answer.raw, _LISTING)
            try:
                for entry in ijson.items(stream, f"{key}.item", use_float=True):
                    if isinstance(entry, dict):
                        yield entry
            except ijson.JSONError:
                raise self._malformed(what) from None
            except Exception as error:  # noqa: BLE001 - raised again
                raise self._broken(what, error) from None
            if not stream.read_any:
                raise self._malformed(what)

    def _answer(self, method: str, what: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - requests.Response
        import requests

        if method == "GET":
            self.reads += 1
        else:
            self.writes += 1
        try:
            answer = self._session.request(
                method, self.url + path, json=body, timeout=self.timeout, stream=True, allow_redirects=False
            )
        except requests.RequestException as error:
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
            raise RemoteError(f"{what}: LiteLLM's answer exceeds {limit // (1024 * 1024)} MiB")
        return data

    def _broken(self, what: str, error: Exception) -> Exception:
        """Return the error for a stream that broke off. What is no error of urllib3 is returned as it is."""
        if isinstance(error, OSError) or type(error).__module__.startswith("urllib3"):
            return unanswered(what, self.url, error, self.timeout)
        return error

    def _malformed(self, what: str) -> RemoteError:
        return RemoteError(
            f"{what}: {self.url} does not answer as LiteLLM does",
            "check LITELLM_URL and the port in litellm/.env",
        )

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def client(environment: Environment) -> Client:
    """Return a session with the proxy of litellm/.env. Raise Unfit if it has no master key."""
    return Client(environment.url, environment.master_key, environment.secrets)


class _Limited:
    """A stream that ends with an error after `limit` bytes."""

    def __init__(self, raw: Any, limit: int) -> None:  # noqa: ANN401 - urllib3's response
        self._raw, self._left, self.read_any = raw, limit, False

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._raw.read(size, decode_content=True)
        self._left -= len(data)
        self.read_any = self.read_any or bool(data)
        if self._left < 0:
            raise RemoteError(f"LiteLLM's list of models exceeds {_LISTING // (1024 * 1024)} MiB")
        return data


def _row(entry: Mapping[str, Any], keep: Collection[str]) -> Row:
    params, info = entry.get("litellm_params"), entry.get("model_info")
    params, info = params if isinstance(params, dict) else {}, info if isinstance(info, dict) else {}
    whole = {key: value for key, value in info.items() if value is not None and key not in VOLATILE}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).digest()
    kept = {key: info[key] for key in keep if key in info}
    return Row(
        str(info.get("id") or ""), str(entry.get("model_name") or ""), params, kept,
        info.get("db_model") is True, digest,
    )  # fmt: skip


def _credential(entry: Mapping[str, Any]) -> Credential:
    values, info = entry.get("credential_values"), entry.get("credential_info")
    return Credential(
        str(entry.get("credential_name") or ""),
        values if isinstance(values, dict) else {},
        info if isinstance(info, dict) else {},
    )
