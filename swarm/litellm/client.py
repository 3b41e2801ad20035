"""The proxy's API: one method for each request that swarm makes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from swarm.litellm.reasons import ApiError, unanswered
from swarm.litellm.session import LISTING, Session

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from swarm.litellm.environment import Environment

__all__ = ["Client", "Credential", "Health", "Row", "client"]

# Keys of model_info that differ between two copies of one deployment. LiteLLM Enterprise adds who and when.
VOLATILE = {"id", "db_model", "created_at", "updated_at", "created_by", "updated_by", "swarm", "blocked"}
# Keys of model_info that every row keeps. The other 300, most of which LiteLLM merges from its price list, would need
# 8 KB a row.
KEPT = {"id", "db_model", "blocked", "swarm", "created_at", "description", "mode", "base_model", "team_id"}
_ANSWER = 64 * 1024  # bytes of an answer about health; LiteLLM sends 40
_OK = 200
_HEALTH = 10.0  # seconds; readiness takes 3 while the database is down


@dataclass(frozen=True)
class Row:
    """One deployment, as /model/info shows it. `params` lacks secrets, `info` has the keys KEPT and those asked for.

    `details` is the whole model_info as JSON.
    """

    id: str
    name: str
    params: Mapping[str, Any]
    info: Mapping[str, Any]
    from_db: bool
    details: bytes | memoryview = field(default=b"{}", repr=False)

    @property
    def digest(self) -> bytes:
        """What stands for the whole model_info, without what differs between copies."""
        info = json.loads(bytes(self.details))
        whole = {key: value for key, value in info.items() if value is not None and key not in VOLATILE}
        return json.dumps(whole, sort_keys=True).encode()

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
    """The answer to one of the two health requests. `status` 0 means that LiteLLM gave none."""

    status: int
    body: Mapping[str, Any]
    error: str = ""


class Client(Session):
    """A session with one method for each request that swarm makes."""

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def rows(self, keys: Collection[str] = ()) -> list[Row]:
        """Return every deployment of the configuration file and of the database, in the API's order, in one request.

        `keys` are keys of model_info to keep in addition. Raise RemoteError.
        """
        what = "list the models"
        try:
            return _parsed(self.body(what, "/model/info"), KEPT | set(keys))
        except (ValueError, TypeError, RecursionError):
            raise self.malformed(what) from None

    def add_model(
        self, name: str, params: Mapping[str, Any], info: Mapping[str, Any], *, blocked: bool = False
    ) -> None:
        """Register a deployment under the id that `info` has. Raise ApiError or Unanswered."""
        body = {"model_name": name, "litellm_params": params, "model_info": info, "blocked": blocked}
        self.write("POST", f"register {name}", "/model/new", body)

    def update_model(self, row_id: str, changes: Mapping[str, Any]) -> None:
        """Merge `changes` into a deployment of the database. The API can't remove a parameter."""
        self.write("PATCH", f"update {row_id}", f"/model/{quote(row_id, safe='')}/update", changes)

    def delete_model(self, row_id: str) -> bool:
        """Delete a deployment from the database. Return False if it does not exist."""
        try:
            self.write("POST", f"delete {row_id}", "/model/delete", {"id": row_id})
        except ApiError as error:
            if error.status in {400, 404} and "not found" in error.text:
                return False
            raise
        return True

    def exists(self, row_id: str) -> bool:
        """Return whether there is a deployment of this id."""
        path = f"/model/info?litellm_model_id={quote(row_id, safe='')}"
        try:
            answer = self.read(f"look up {row_id}", path)
        except ApiError as error:
            if error.status in {400, 404}:
                return False
            raise
        return bool(answer.get("data"))

    def masks(self, row_id: str) -> Mapping[str, Any] | None:
        """Return the secrets of a deployment as the API masks them, or None if it does not exist."""
        try:
            path = f"/credentials/by_model/{quote(row_id, safe='')}"
            answer = self.read(f"read the masked key of {row_id}", path)
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP's "not found"
                return None
            raise
        values = answer.get("credential_values")
        return values if isinstance(values, dict) else {}

    # ── credentials ──────────────────────────────────────────────────────────────────────────────────────────────────

    def credentials(self) -> list[Credential]:
        """Return all credentials, in one request. Raise RemoteError."""
        answer = self.read("list the credentials", "/credentials", limit=LISTING)
        found = answer.get("credentials")
        if not isinstance(found, list):
            raise self.malformed("list the credentials")
        return [_credential(entry) for entry in found if isinstance(entry, dict)]

    def add_credential(self, name: str, values: Mapping[str, str], info: Mapping[str, Any]) -> None:
        """Create a credential. Raise ApiError with status 409 if it exists."""
        body = {"credential_name": name, "credential_values": values, "credential_info": info}
        self.write("POST", f"create the credential {name}", "/credentials", body)

    def update_credential(self, name: str, values: Mapping[str, str], info: Mapping[str, Any]) -> None:
        """Merge values and info into a credential."""
        body = {"credential_name": name, "credential_values": values, "credential_info": info}
        self.write("PATCH", f"update the credential {name}", f"/credentials/{quote(name, safe='')}", body)

    def delete_credential(self, name: str) -> bool:
        """Delete a credential. Return False if it does not exist."""
        try:
            self.write("DELETE", f"delete the credential {name}", f"/credentials/{quote(name, safe='')}")
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
                status, body = answer.status_code, answer.raw.read(_ANSWER, decode_content=True)
        except (requests.RequestException, OSError, ValueError) as error:
            return Health(0, {}, unanswered("health", self.url, error, limit).message)
        except Exception as error:
            if type(error).__module__.startswith("urllib3"):  # what its raw stream raises
                return Health(0, {}, unanswered("health", self.url, error, limit).message)
            raise
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):  # such as the page of a web server in front of LiteLLM
            return Health(0, {}, self.malformed("health").message) if status == _OK else Health(status, {})
        return Health(status, data if isinstance(data, dict) else {"text": data})

    def get(self, what: str, path: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the JSON at `path`. `what` says for messages what is requested. Raise RemoteError."""
        return self.request("GET", what, path)


def client(environment: Environment) -> Client:
    """Return a session with the proxy of litellm/.env. Raise Unfit if it has no master key."""
    return Client(environment.url, environment.master_key, environment.secrets)


def _parsed(body: bytes | bytearray, keep: Collection[str]) -> list[Row]:
    """Return the rows of a listing. Raise ValueError or TypeError if it is none.

    Only the few keys of model_info that are kept become Python objects: 10,000 rows have 3 million keys.
    """
    try:
        import msgspec
    except ModuleNotFoundError:  # in LiteLLM's own image, which has only what LiteLLM needs
        return _parsed_slowly(body, keep)
    kept = sorted(keep)
    # The keys come from outside, so the fields get names of their own.
    fields = [(f"key{number}", Any, msgspec.UNSET) for number in range(len(kept))]
    names = {f"key{number}": key for number, key in enumerate(kept)}
    info = msgspec.json.Decoder(msgspec.defstruct("Info", fields, rename=names))
    entry = msgspec.defstruct(
        "Entry",
        [
            ("model_name", str | None, None),
            ("litellm_params", dict[str, Any] | None, None),
            ("model_info", msgspec.Raw, msgspec.Raw(b"{}")),
        ],
    )
    kind = msgspec.defstruct("Listing", [("data", list[entry])])  # type: ignore[valid-type]
    listing = msgspec.json.decode(body, type=kind)
    rows = []
    for each in listing.data:  # type: ignore[attr-defined] # its class is made above
        found = info.decode(each.model_info)
        values = {
            names[name]: value for name in names if (value := getattr(found, name)) is not msgspec.UNSET
        }
        rows.append(_row(each.model_name, each.litellm_params, values, memoryview(each.model_info)))
    return rows


def _parsed_slowly(body: bytes | bytearray, keep: Collection[str]) -> list[Row]:
    rows = []
    for entry in json.loads(body)["data"]:
        info = entry.get("model_info") or {}
        kept = {key: info[key] for key in keep if key in info}
        rows.append(
            _row(entry.get("model_name"), entry.get("litellm_params"), kept, json.dumps(info).encode())
        )
    return rows


def _row(
    name: str | None, params: Mapping[str, Any] | None, info: Mapping[str, Any], details: bytes | memoryview
) -> Row:
    return Row(
        str(info.get("id") or ""), name or "", params or {}, info, info.get("db_model") is True, details
    )


def _credential(entry: Mapping[str, Any]) -> Credential:
    values, info = entry.get("credential_values"), entry.get("credential_info")
    return Credential(
        str(entry.get("credential_name") or ""),
        values if isinstance(values, dict) else {},
        info if isinstance(info, dict) else {},
    )
