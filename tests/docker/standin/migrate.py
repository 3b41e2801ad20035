"""A stand-in for the migration: make a table."""

import os
import subprocess

STATEMENT = (
    "create table if not exists migrated (at timestamptz default now()); insert into migrated default values"
)
subprocess.run(
    ["psql", "-q", "-v", "ON_ERROR_STOP=1", os.environ["DATABASE_URL"], "-c", STATEMENT], check=True
)
