"""Write models straight into LiteLLM's database, encrypted as LiteLLM does. LiteLLM's own Python runs this program.

It reads {"url": …, "salt": …, "rows": [{"id", "name", "params", "info"}, …]} from its standard input.
"""

from __future__ import annotations

import base64
import json
import sys
from hashlib import sha256

import nacl.secret
import psycopg

_INSERT = """
insert into "LiteLLM_ProxyModelTable"
    (model_id, model_name, litellm_params, model_info, created_by, updated_at, updated_by)
values (%s, %s, %s, %s, 'default_user_id', now(), 'default_user_id')
"""


def main() -> None:
    """Write the rows in one transaction."""
    given = json.load(sys.stdin)
    box = nacl.secret.SecretBox(sha256(given["salt"].encode()).digest())

    def encrypted(value: object) -> object:
        """Encrypt a string, as LiteLLM does with each parameter that is one."""
        if not isinstance(value, str):
            return value
        return base64.urlsafe_b64encode(box.encrypt(value.encode())).decode()

    rows = [
        (
            row["id"],
            row["name"],
            json.dumps({name: encrypted(value) for name, value in row["params"].items()}),
            json.dumps({"id": row["id"], "db_model": False, **row["info"]}),
        )
        for row in given["rows"]
    ]
    with psycopg.connect(given["url"]) as connection, connection.cursor() as cursor:
        cursor.executemany(_INSERT, rows)


main()
