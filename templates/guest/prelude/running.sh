# Run scripts, wait, and call apt-get. Part of the prelude. POSIX sh. Sourcing this file runs nothing.

# system_environment: export what /etc/environment gives to every login, such as a proxy; not what swarm sets.
# A script that goes through sudo or as_user has no login, so it would not have them.
system_environment() {
  [ -r /etc/environment ] || return 0
  while IFS= read -r row || [ -n "$row" ]; do
    row=${row#"${row%%[! 	]*}"} row=${row#export }
    name=${row%%=*} value=${row#*=}
    case $row in [A-Za-z_]*=*) ;; *) continue ;; esac
    case $name in
      *[!A-Za-z0-9_]*) continue ;;
      PATH | HOME | SHELL | USER | LOGNAME | PWD | IFS | ENV | LC_ALL | LD_*) continue ;;
      PNPM_HOME | XDG_RUNTIME_DIR | DBUS_SESSION_BUS_ADDRESS | swarm_*) continue ;;
    esac
    value=${value%"${value##*[! 	]}"}
    case $value in \"*\" | \'*\') value=${value#?} value=${value%?} ;; esac
    command export "$name=$value" 2>/dev/null || :
  done </etc/environment
}

# as_user NAME: run the shell script on standard input as that user, with access to the user's D-Bus and systemd.
as_user() {
  entry=$(getent passwd -- "$1") || return 1
  entry=${entry#*:*:} # NAME:PASSWORD: and then UID:GID:GECOS:HOME:SHELL
  user_id=${entry%%:*} entry=${entry#*:}
  group_id=${entry%%:*} entry=${entry%:*}
  home=${entry##*:}
  pnpm_home=$home/.local/share/pnpm
  setpriv --reuid="$user_id" --regid="$group_id" --init-groups --reset-env -- env -C "$home" LC_ALL=C.UTF-8 \
    XDG_RUNTIME_DIR="/run/user/$user_id" DBUS_SESSION_BUS_ADDRESS="unix:path=/run/user/$user_id/bus" \
    PNPM_HOME="$pnpm_home" \
    PATH="$pnpm_home/bin:$pnpm_home:$home/.local/bin:/usr/local/bin:/usr/bin:/bin" \
    ${NODE_EXTRA_CA_CERTS:+"NODE_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS"} sh
}

# wait_for SECONDS COMMAND…: run the command every half second until it succeeds. Fail after that many seconds.
wait_for() {
  tries=$(($1 * 2))
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ "$tries" -le 0 ]; then return 1; fi
    sleep 0.5
  done
}

# unit_settled COMMAND…: succeed if the state that `systemctl is-active` (the command) prints is final, good or bad.
unit_settled() {
  case $("$@") in activating | deactivating | reloading) return 1 ;; esac
}

# apt ARGUMENT…: apt-get without questions. It waits up to 300 s for another apt, as long as an unattended upgrade
# takes. apt-get itself waits only for dpkg's lock, so this function also waits for the lock of the package lists.
# An update ends after 900 s: if a connection dies in the middle, apt 2.6 can wait for ever, whatever its own timeouts
# are. An emulated guest needs a few minutes.
apt() {
  wait_for 300 lock_free /var/lib/apt/lists/lock || true
  most=
  [ "$1" != update ] || most=900
  ${most:+timeout -k 10 "$most"} apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# dpkg_configure: configure what an interrupted run has left unpacked. dpkg itself does not wait for another one. Of a
# file that was changed here, the version here stays; without an answer, dpkg would fail.
dpkg_configure() {
  wait_for 300 lock_free "${DPKG_ADMINDIR:-/var/lib/dpkg}/lock-frontend" || true
  dpkg --force-confdef --force-confold --configure -a
}

# lock_free FILE: succeed if no process holds this lock of apt or dpkg. flock(1) does not see their fcntl locks;
# /proc/locks does.
lock_free() {
  [ -e "$1" ] || return 0
  ! grep -q ":$(stat -c %i "$1") " /proc/locks
}
