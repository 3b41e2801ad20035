# OpenClaw's package, from npm and pnpm. Part of the prelude. POSIX sh. Sourcing this file runs nothing.

# release_fact PACKAGE@VERSION: "offered VERSION INTEGRITY" from npm's registry, "unknown" if the registry has no such
# version, "unanswered MESSAGE" if the request fails, or nothing if npm is not installed. INTEGRITY is the checksum of
# the package's archive, or "none". npm's cache and log are in a temporary folder. npm itself would wait 15 minutes for
# a registry that is silent.
release_fact() {
  command -v npm >/dev/null || return 0
  folder=$(mktemp -d)
  if npm_config_fetch_retries=${npm_config_fetch_retries:-1} npm_config_fetch_retry_mintimeout=1000 \
    npm_config_fetch_timeout=${npm_config_fetch_timeout:-50000} \
    npm view --json --cache "$folder" --logs-max=0 "$1" version dist.integrity \
    >"$folder/answer" 2>"$folder/errors"; then
    version=$(sed -n 's/^ *"version": *"\([^"]*\)".*/\1/p' "$folder/answer" | tail -n1)
    integrity=$(sed -n 's/^ *"dist.integrity": *"\(sha512-[^"]*\)".*/\1/p' "$folder/answer" | tail -n1)
    if [ -n "$version" ]; then echo "offered $version ${integrity:-none}"; else echo unknown; fi
  elif grep -qE 'E404|ETARGET' "$folder/errors"; then
    echo unknown
  else
    echo "unanswered $(grep -m1 -i 'npm err' "$folder/errors")"
  fi
  rm -rf "$folder"
}

# npm_archive NAME@VERSION INTEGRITY FOLDER: fetch a package's archive into the folder and print its path. Fail if its
# checksum is another one. Nothing of it runs.
npm_archive() {
  archive=$(npm pack --loglevel=error --ignore-scripts --cache "$3/cache" --pack-destination "$3" "$1") || return 1
  archive=$3/$(printf '%s\n' "$archive" | tail -n1)
  npm_checked "$1" "$2" "$archive" && echo "$archive"
}

# npm_checked NAME@VERSION INTEGRITY FILE: fail if the checksum of a package's archive is another one.
npm_checked() {
  found=sha512-$(openssl dgst -sha512 -binary "$3" | base64 -w0)
  if [ "$found" != "$2" ]; then
    echo "the archive of $1 is not the expected one: its checksum is $found, not $2" >&2
    return 1
  fi
}

# pnpm_integrity NAME TARGET: the checksum of the archive from which pnpm has installed the package whose program is
# TARGET, from pnpm's lock file, or "none".
pnpm_integrity() {
  lock=${2%"/node_modules/$1/"*}/pnpm-lock.yaml
  sum='s/.*integrity: \([^,} ]*\).*/\1/p'
  sed -n "/^  '\{0,1\}$1@[^(]*:\$/{n;$sum;}" "$lock" 2>/dev/null | head -n1 | grep . || echo none
}
