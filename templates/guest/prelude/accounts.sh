# Users, groups and the user's systemd. Part of the prelude. POSIX sh. Sourcing this file runs nothing.

# user_fact NAME HOME: "absent", or "HOME:SHELL MODE" with the mode of the account's home folder. Below it are lines
# "uid NUMBER", "group NUMBER" of a group of that name, and "home OWNER" of the folder HOME, for each that exists.
user_fact() {
  if recall "$users_table" "$1:"; then
    shell=${found##*:} home=${found%:*} uid=${found#*:}
    home=${home##*:}
    file_state "$home" || found=missing
    echo "$home:$shell ${found%% *}"
    echo "uid ${uid%%:*}"
  else
    echo absent
  fi
  if recall "$groups_table" "$1:"; then
    found=${found#*:}
    echo "group ${found%%:*}"
  fi
  if file_state "$2"; then
    found=${found#* }
    echo "home ${found%% *}"
  fi
}

# former_accounts_fact NAME SEEDED SUDOERS: each account other than NAME that swarm has made and that can log in. Those
# with a file of sudo rules by swarm are, and SEEDED if the first boot made it.
former_accounts_fact() {
  if [ "$1" != "$2" ] && recall "$users_table" "$2:"; then
    case $found in *:OpenClaw:*/nologin) ;; *:OpenClaw:*) echo "$2" ;; esac
  fi
  grep -ls '^# Written by swarm\. ' "$3"/* | while IFS= read -r file; do
    [ "${file##*/}" = "$1" ] || echo "${file##*/}"
  done
}

# seeded_keys_fact FILE: each public key in the first boot's user data that the file has.
seeded_keys_fact() {
  if ! [ -f "$1" ] || ! [ -e /var/lib/cloud/instance/user-data.txt ]; then return 0; fi
  grep -ohE '(ssh|ecdsa|sk)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/=]+' /var/lib/cloud/instance/user-data.txt |
    cut -d ' ' -f 2 | grep -oFf - -- "$1" | sort -u
}

# group_fact NAME: "there" or "absent".
group_fact() {
  if recall "$groups_table" "$1:"; then echo there; else echo absent; fi
}

# member_fact NAME GROUP: "yes" if the group lists the user, or is the user's primary group, else "no".
member_fact() {
  recall "$users_table" "$1:" || { echo no; return 0; }
  gid=${found#*:*:}
  recall "$groups_table" "$2:" || { echo no; return 0; }
  members=${found##*:} found=${found#*:}
  case ",$members," in
    *",$1,"*) echo yes ;;
    *) if [ "${gid%%:*}" = "${found%%:*}" ]; then echo yes; else echo no; fi ;;
  esac
}

# manager_runs UID: succeed if the user's service manager runs. The kernel lists its processes, below either hierarchy
# of control groups; systemctl takes four times as long.
manager_runs() {
  manager=user.slice/user-$1.slice/user@$1.service
  for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd; do
    if read -r row <"$tree/$manager/init.scope/cgroup.procs"; then return 0; fi
  done 2>/dev/null
  systemctl is-active --quiet "user@$1.service"
}

# linger_fact NAME: "yes" if the user's systemd runs with its own bus, and will after a boot, else "no".
linger_fact() {
  recall "$users_table" "$1:" || { echo no; return 0; }
  uid=${found#*:} uid=${uid%%:*}
  if [ -e "/var/lib/systemd/linger/$1" ] && [ -S "/run/user/$uid/bus" ] && manager_runs "$uid"; then
    echo yes
  else
    echo no
  fi
}
