"""The commands that restore an archive without swarm: standard tools only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.backup.naming import parse
from swarm.errors import UsageError
from swarm.text import quote, visible

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["emergency"]

_HEAD = """\
# Restore {name} without swarm. Run this as root in the guest.
# Copy the archive there first, and its summary if you have it{key}.
# It needs GNU tar, coreutils, {programs}.
set -eu
archive={archive}
summary={summary}
user={user}
state={state}
"""

_CHECK = """
# 1. Compare the archive with its summary.
if [ -e "$summary" ]; then
  sum=$(sed -n 's/^ *"sha256": "\\([0-9a-f]\\{64\\}\\)".*/\\1/p' "$summary")
  if [ "$(sha256sum <"$archive")" != "$sum  -" ]; then
    echo 'the archive is damaged: it differs from its summary' >&2
    exit 1
  fi
else
  echo 'there is no summary, so the archive is checked only after it is unpacked' >&2
fi
"""

_REST = """\

# 3. Check every file. The list of checksums comes last in the archive, so a truncated archive has none.
(cd "$fresh" && sha256sum --quiet -c .swarm-archive/SHA256SUMS)
rm -r "$fresh/.swarm-archive"

# 4. Give the files to the account, and keep secrets private.
find "$fresh" -type f \\( -name '*-wal' -o -name '*-shm' -o -name '*-journal' \\) -exec sh -c '
  for file do # beside a database, these belong to another version of it
    start=$(head -c 15 "${file%-*}" 2>/dev/null || :)
    if [ "$start" = "SQLite format 3" ]; then rm "$file"; fi
  done' sh {} +
chown -R -h "$user:" "$fresh"
chmod 700 "$fresh"
for name in openclaw.json .env secrets.json credentials identity; do
  if [ -e "$fresh/$name" ] && [ ! -L "$fresh/$name" ]; then chmod -R go= "$fresh/$name"; fi
done
find "$fresh" -type f -name '*.sqlite' -exec chmod 600 {} +

# 5. Stop the gateway, and put the files in place. The old ones stay beside them.
gateway() {
  runtime=/run/user/$(id -u "$user")
  runuser -u "$user" -- env XDG_RUNTIME_DIR="$runtime" DBUS_SESSION_BUS_ADDRESS="unix:path=$runtime/bus" \\
    systemctl --user "$1" openclaw-gateway.service || echo "the gateway did not $1; is it installed?" >&2
}
gateway stop
old=$state-replaced-by-hand-$(date -u +%Y%m%dt%H%M%Sz)
if [ -e "$state" ]; then mv -T -- "$state" "$old"; fi
mv -T -- "$fresh" "$state"
for name in workspace logs; do # a backup leaves them out
  if [ -e "$old/$name" ] && [ ! -e "$state/$name" ]; then mv -- "$old/$name" "$state/"; fi
done
gateway start
"""


def emergency(archive: Path, *, user: str, state_dir: str) -> str:
    """Return a shell script that restores `archive` for the account `user`. Raise UsageError for another file."""
    found = parse(archive.name)
    if found is None or found[1] != "tar.zst":
        raise UsageError(
            f"{visible(archive.name, lines=False)} is not the name of an archive",
            "expected NAME-YYYYMMDDtHHMMSSz.tar.zst or .tar.zst.age",
        )
    name, encrypted = found[0], found[0].encrypted
    path = archive if archive.is_absolute() else f"./{archive}"
    summary = archive.with_name(name.summary)
    head = _HEAD.format(
        name=archive.name,
        key=", and the age identity (the secret key)" if encrypted else "",
        programs="zstd and age" if encrypted else "and zstd",
        archive=quote(path),
        summary=quote(summary if summary.is_absolute() else f"./{summary}"),
        user=quote(user),
        state=quote(state_dir),
    )
    return (
        head
        + ("identity=./key.txt # the file with AGE-SECRET-KEY-...\n" if encrypted else "")
        + _CHECK
        + _unpack(encrypted=encrypted)
        + _REST
    )


def _unpack(*, encrypted: bool) -> str:
    source = 'age -d -i "$identity" "$archive" | zstd -dc' if encrypted else 'zstd -dc "$archive"'
    return (
        "\n# 2. Unpack it into a fresh directory beside the state directory.\n"
        'fresh=$(mktemp -d "$state-emergency-XXXXXX")\n'
        f'{source} | tar -xpf - -C "$fresh"\n'
    )
