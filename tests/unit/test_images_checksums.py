"""Parsing publishers' checksum files, as found in the wild."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ImageError
from swarm.images.checksums import expected

A, B = "a" * 64, "b" * 64
LONG = "c" * 128


@pytest.mark.parametrize(
    ("text", "algorithm", "digest"),
    [
        pytest.param(f"{A}  image.qcow2\n", "sha256", A, id="GNU, text mode"),
        pytest.param(f"{A} *image.qcow2\n", "sha256", A, id="GNU, binary mode"),
        pytest.param(f"SHA256 (image.qcow2) = {A}\n", "sha256", A, id="BSD"),
        pytest.param(
            f"SHA2-256 (other) = {B}\nSHA256 (image.qcow2) = {A}\n", "sha256", A, id="BSD among others"
        ),
        pytest.param(
            f"SHA512 (image.qcow2) = {LONG}\nSHA256 (image.qcow2) = {A}\n", "sha256", A, id="two algorithms"
        ),
        pytest.param(
            f"SHA512 (image.qcow2) = {LONG}\nSHA256 (image.qcow2) = {A}\n",
            "sha512",
            LONG,
            id="second of two algorithms",
        ),
        pytest.param(f"{LONG}  image.qcow2\n", "sha512", LONG, id="SHA-512"),
        pytest.param(f"{A.upper()}  image.qcow2\n", "sha256", A, id="uppercase"),
        pytest.param(f"{A}  ./image.qcow2\n", "sha256", A, id="with ./"),
        pytest.param(
            f"{B}  image.qcow2.old\n{A}  image.qcow2\n{B}  an-image.qcow2\n", "sha256", A, id="similar names"
        ),
        pytest.param(f"{A}  image.qcow2\r\n{B}  other\r\n", "sha256", A, id="CRLF"),
        pytest.param(
            f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# image.qcow2: 5 bytes\n{A}  image.qcow2\n",
            "sha256",
            A,
            id="signed",
        ),
        pytest.param(f"{A}  image.qcow2\n{A} *image.qcow2\n", "sha256", A, id="duplicate"),
    ],
)
def test_found(text: str, algorithm: str, digest: str) -> None:
    """Every common format is parsed."""
    assert expected(text, "image.qcow2", algorithm) == digest


@pytest.mark.parametrize(
    ("text", "algorithm", "message"),
    [
        pytest.param("", "sha256", "has no sha256 for image.qcow2", id="empty"),
        pytest.param("<html>404</html>", "sha256", "has no sha256 for image.qcow2", id="a web page"),
        pytest.param(f"{A}  other.qcow2\n", "sha256", "has no sha256", id="another file"),
        pytest.param(
            f"{A}  folder/image.qcow2\n", "sha256", "has no sha256", id="same name in another directory"
        ),
        pytest.param(f"{A}  image.qcow2\n", "sha512", "has no sha512", id="another algorithm's length"),
        pytest.param(f"MD5 (image.qcow2) = {A}\n", "sha256", "has no sha256", id="another algorithm's name"),
        pytest.param(f"{A[1:]}  image.qcow2\n", "sha256", "has no sha256", id="a digit is missing"),
        pytest.param(
            f"{A}  image.qcow2\n{B}  image.qcow2\n", "sha256", "has 2 different checksums", id="contradiction"
        ),
    ],
)
def test_missing_or_ambiguous(text: str, algorithm: str, message: str) -> None:
    """A missing or ambiguous checksum is an error, never a guess."""
    with pytest.raises(ImageError, match=message):
        expected(text, "image.qcow2", algorithm)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), st.binary(max_size=9), min_size=1
    ),
    st.data(),
)
def test_each_of_many(contents: dict[str, bytes], data: st.DataObject) -> None:
    """Each file's own checksum is found, among any set of files in any mix of formats."""
    lines = []
    for name, content in contents.items():
        digest = hashlib.sha512(content).hexdigest()
        style = data.draw(
            st.sampled_from(["{digest}  {name}", "{digest} *{name}", "SHA512 ({name}) = {digest}"])
        )
        lines.append(style.format(name=name, digest=digest))
    text = "\n".join(lines)
    for name, content in contents.items():
        assert expected(text, name, "sha512") == hashlib.sha512(content).hexdigest()
