# Shell functions that probes and changes share. POSIX sh; nothing here runs by itself.
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# put PATH MODE OWNER GROUP: standard input becomes the file PATH, all of it or nothing of it.
# The new file is complete, on disk and has its owner and mode before it takes the old one's place.
put() (
  set -eu
  folder=$(dirname -- "$1") name=$(basename -- "$1")
  umask 077
  rm -f -- "$folder/.$name".swarm-?????? # what a power cut may have left
  new=$(mktemp "$folder/.$name.swarm-XXXXXX")
  trap 'rm -f -- "$new"' EXIT
  cat >"$new"
  chown -- "$3:$4" "$new"
  chmod -- "$2" "$new"
  sync -- "$new"
  mv -fT -- "$new" "$1"
  sync -- "$folder"
)

# file_fact PATH SHA256 [quiet]: "absent", or "KIND MODE OWNER GROUP SHA256", and the content on the lines after it where it is
# another than the expected one (so that the difference can be shown) and not too large for that.
file_fact() {
  kind=$(stat -c %F -- "$1" 2>/dev/null) || { echo absent; return 0; }
  case $kind in
    "regular file" | "regular empty file") ;;
    *) echo "other $(stat -c '%a %U %G' -- "$1") $kind"; return 0 ;;
  esac
  sum=$(sha256sum <"$1") && sum=${sum%% *}
  echo "file $(stat -c '%a %U %G' -- "$1") $sum"
  if [ "$sum" != "$2" ] && [ "${3-}" != quiet ] && [ "$(stat -c %s -- "$1")" -le 131072 ]; then cat -- "$1"; fi
}

# as_user NAME: run the shell script on standard input as that user, with the user's own D-Bus and systemd in reach.
as_user() {
  user_id=$(id -u -- "$1") || return 1
  home=$(getent passwd -- "$1" | cut -d: -f6)
  pnpm_home=$home/.local/share/pnpm
  setpriv --reuid="$1" --regid="$(id -g -- "$1")" --init-groups --reset-env -- env -C "$home" LC_ALL=C.UTF-8 \
    XDG_RUNTIME_DIR="/run/user/$user_id" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$user_id/bus" PNPM_HOME="$pnpm_home" \
    PATH="$pnpm_home/bin:$pnpm_home:$home/.local/bin:/usr/local/bin:/usr/bin:/bin" ${NODE_EXTRA_CA_CERTS:+"NODE_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS"} sh
}

# wait_for SECONDS COMMAND…: try the command every half second until it works; fail when the time is up.
wait_for() {
  tries=$(($1 * 2))
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ "$tries" -le 0 ]; then return 1; fi
    sleep 0.5
  done
}

# apt LINE…: apt-get without questions, which waits for another one that holds the lock (300 s: an unattended upgrade takes that long).
apt() { apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"; }

# files_sum FILE…: one checksum over the content of all files; a missing one counts as such.
files_sum() { sha256sum -- "$@" 2>/dev/null | sha256sum | cut -d' ' -f1; }
