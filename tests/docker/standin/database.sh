#!/bin/sh
# PostgreSQL of this computer, set up as the official image does it.
set -eu
data=/var/lib/postgresql/data
as_postgres() { setpriv --reuid=999 --regid=999 --clear-groups "$@"; }
# A test recreates this container while it sets the database up: only a complete one counts.
if [ ! -e "$data/complete" ]; then
    rm -rf "${data:?}"/*
    chown 999:999 "$data"
    chmod 700 "$data"
    rm -f /tmp/password
    (umask 077 && printf '%s' "$POSTGRES_PASSWORD" >/tmp/password)
    chown 999 /tmp/password
    as_postgres initdb -D "$data" -U "$POSTGRES_USER" --pwfile=/tmp/password -A scram-sha-256 \
        --no-locale -E UTF8 --no-sync
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | as_postgres postgres --single -D "$data" postgres
    touch "$data/complete"
fi
sleep "${LATE:-0}"
exec setpriv --reuid=999 --regid=999 --clear-groups \
    postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off
