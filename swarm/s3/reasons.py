"""What the errors of boto3 mean, and what to do about them."""

from __future__ import annotations

import re

from swarm.errors import RemoteError
from swarm.text import visible

__all__ = ["EXISTS", "GONE", "Interrupted", "code", "reason", "transient"]

GONE = {"404", "NoSuchKey", "NotFound"}
EXISTS = {"412", "PreconditionFailed", "ConditionalRequestConflict"}

_TRANSIENT = {408, 429, 500, 502, 503, 504}
_KEYS = "check the keys of the default profile in ~/.aws/credentials"
_LATER = "run the command again later"
_CODES: dict[str, tuple[str, str | None]] = {
    "NoSuchBucket": ("the bucket {bucket} does not exist", "create it, or correct backup.destinations"),
    "NoSuchKey": ("the object does not exist", None),
    "404": ("the object or the bucket does not exist", None),
    "InvalidAccessKeyId": ("the server does not know the access key", _KEYS),
    "SignatureDoesNotMatch": ("the secret key does not match the access key", _KEYS),
    "ExpiredToken": ("the session token has expired", _KEYS),
    "AccessDenied": ("access is denied", "give the key read and write access to the bucket {bucket}"),
    "403": ("access is denied", "give the key read and write access to the bucket {bucket}"),
    "RequestTimeTooSkewed": (
        "the clocks of this machine and the server differ too much",
        "synchronize both clocks: timedatectl set-ntp true",
    ),
    "RequestExpired": (
        "the request took so long that its signature expired",
        "synchronize the clocks, and check the connection's speed",
    ),
    "ObjectLockConfigurationNotFoundError": ("the bucket has no object lock", None),
    "BadDigest": ("data was damaged on its way to the server", "run the command again"),
    "XAmzContentSHA256Mismatch": ("data was damaged on its way to the server", "run the command again"),
    "SlowDown": ("the server is overloaded (503)", _LATER),
    "ServiceUnavailable": ("the server is unavailable (503)", _LATER),
    "503": ("the server is unavailable (503)", _LATER),
    "InternalError": ("the server reports an internal error (500)", "read the server's log"),
    "500": ("the server reports an internal error (500)", "read the server's log"),
    "PreconditionFailed": ("it exists already", "run the command again"),
    "ConditionalRequestConflict": ("another upload of it is under way", "run the command again"),
    "412": ("it exists already", "run the command again"),
    "EntityTooLarge": ("the object is too large for the server", None),
    "QuotaExceeded": ("the bucket's quota is exhausted", "raise it, or lower backup.keep"),
    "NoSuchUpload": ("the server has dropped the unfinished upload", "run the command again"),
}
_UNTRUSTED = {  # what OpenSSL says about a certificate: what to do about it, unless it is the authority
    "mismatch": "correct the host name in backup.endpoint",
    "expired": "renew the server's certificate",
    "not yet valid": "check this machine's clock",
}
_NETWORK = {
    "NoCredentialsError": (
        "there are no credentials",
        "put aws_access_key_id and aws_secret_access_key under [default] in ~/.aws/credentials",
    ),
    "PartialCredentialsError": ("the credentials are incomplete", _KEYS),
    "ProfileNotFound": ("the profile in AWS_PROFILE does not exist", "correct it, or unset AWS_PROFILE"),
    "EndpointConnectionError": ("{server} can't be reached", "check backup.endpoint and the network"),
    "ConnectTimeoutError": ("{server} does not answer", "check backup.endpoint and the network"),
    "ReadTimeoutError": ("{server} stopped answering", _LATER),
    "ConnectionClosedError": ("{server} closed the connection", _LATER),
    "ProxyConnectionError": ("the proxy can't be reached", "check HTTP_PROXY and HTTPS_PROXY"),
    "IncompleteReadError": ("the content ended early", "run the command again"),
    "ResponseStreamingError": ("the connection broke off", "run the command again"),
    "ProtocolError": ("the connection broke off", "run the command again"),
    "IncompleteRead": ("the content ended early", "run the command again"),
}


class Interrupted(RemoteError):
    """The connection broke, or the server asks to retry later."""


def transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError, IncompleteReadError
    from urllib3.exceptions import HTTPError

    network = (NoConnection, HTTPClientError, IncompleteReadError, HTTPError)
    return isinstance(error, network) or _status(error) in _TRANSIENT


def code(error: BaseException) -> str:
    """Return the code of an error that the server reported, or an empty string."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def reason(
    error: BaseException, bucket: str, endpoint: str | None, *, authority: bool = False
) -> tuple[str, str | None]:
    """Return what an error of boto3 means, and what to do about it. `authority`: whether a CA certificate is set."""
    name = code(error) or type(error).__name__
    if name == "SSLError":
        return _tls(str(error), endpoint or "the S3 server", authority=authority)
    known = _CODES.get(name) or _NETWORK.get(name)
    if known is None:
        known = _CODES.get(str(_status(error)))
    if known is None:
        return visible(f"{name}: {error}"[:300], lines=False), None
    what, hint = known
    names = {"bucket": bucket, "server": endpoint or "the S3 server"}
    return what.format(**names), hint.format(**names) if hint else None


def _tls(text: str, server: str, *, authority: bool) -> tuple[str, str]:
    found = re.search(r"certificate verify failed: (.{1,200}?) \(_ssl", text)
    if not found:
        return f"TLS with {server} failed", "check whether backup.endpoint should be http:// or https://"
    cause = found[1].rstrip(".")
    hints = (hint for words, hint in _UNTRUSTED.items() if words in cause)
    hint = next(hints, f"{'correct' if authority else 'set'} backup.ca_certificate")
    return f"the TLS certificate of {server} is not trusted ({visible(cause, lines=False)})", hint


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)  # None in errors of the network
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
