#!/bin/sh
# jump.sh HOST PORT SOCKET OPTION DESTINATION...: a ProxyCommand that leads through a hypervisor. All guests behind it
# share one connection, since sshd refuses many logins at once (MaxStartups). SOCKET is that connection's control
# socket, OPTION names it for ssh, and DESTINATION... is how ssh reaches the hypervisor.
#
# Many of these may start at the same time. Only the holder of the lock logs in, and the others wait until the
# socket exists. ssh binds a socket under its name with a suffix, so the kernel's list tells a stale one.
set -u
host=$1 port=$2 socket=$3 option=$4
shift 4

if ! grep -qsF " $socket." /proc/net/unix && [ -d "${socket%/*}" ]; then
  exec 9>>"$socket.lock" # ssh closes it
  flock 9
  if ! grep -qsF " $socket." /proc/net/unix; then
    # A connection that the user keeps open may need no login by hand.
    ssh -O check "$@" </dev/null >/dev/null 2>&1 && exec ssh -W "[$host]:$port" "$@"
    rm -f -- "$socket"
    (
      # Keep the lock until the socket exists, or this process, which becomes ssh, has ended: at most ten seconds.
      tries=200
      while [ "$tries" -gt 0 ] && [ ! -S "$socket" ] && kill -0 "$$"; do
        tries=$((tries - 1))
        sleep 0.05
      done
    ) </dev/null >/dev/null 2>&1 &
  fi
fi
# Unused, the connection ends after ten seconds. It notices a dead network in fifteen, as a guest's own does.
exec ssh -o ControlMaster=auto -o ControlPersist=10 -o "$option" \
  -o ServerAliveInterval=5 -o ServerAliveCountMax=3 -W "[$host]:$port" "$@"
