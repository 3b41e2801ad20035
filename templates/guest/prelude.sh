# Shell functions that probes and changes share. POSIX sh. Sourcing this file runs nothing.

# put PATH MODE OWNER GROUP: write standard input to the file PATH, atomically.
# The new file is complete, on disk and has its owner and mode before it replaces the old one.
put() (
  set -eu
  folder=$(dirname -- "$1") name=$(basename -- "$1")
  umask 077
  rm -f -- "$folder/.$name".swarm-?????? # left behind by a power cut
  new=$(mktemp "$folder/.$name.swarm-XXXXXX")
  trap 'rm -f -- "$new"' EXIT
  cat >"$new"
  chown -- "$3:$4" "$new"
  chmod -- "$2" "$new"
  sync -- "$new"
  mv -fT -- "$new" "$1"
  sync -- "$folder"
)

# root_only FOLDER: succeed if root alone decides where this path leads. Each part that exists must be root's and closed
# to other writers, also where a link leads. In a sticky folder others can make a missing part, but replace none.
root_only() {
  case ${roots_table-} in *"
$1
"*) return 0 ;; esac
  root_decides "$1" || return 1
  roots_table="${roots_table-}
$1
"
}
root_decides() (
  path=$1 depth=${2-0} missing=${3-}
  [ "$depth" -lt 16 ] || exit 1
  while :; do
    recall "${states_table-}" "$path	" || found=$(stat -c '%u %g %A' -- "$path" 2>/dev/null)
    case ${found##*	} in
      '') missing=yes ;;
      "0 0 d"???????-? | "0 "*" d"????-??-?) missing='' ;;
      "0 "*" d"????????[tT]) [ -z "$missing" ] || exit 1 ;;
      "0 "*" l"*)
        leads=$(readlink -- "$path")
        case $leads in /*) ;; *) leads=${path%/*}/$leads ;; esac
        root_decides "$leads" $((depth + 1)) "$missing" || exit 1
        missing=''
        ;;
      *) exit 1 ;;
    esac
    [ "$path" != / ] || exit 0
    path=${path%/*}
    path=${path:-/}
  done
)

# followed PATH: print the path, or where it leads if it is a link.
followed() {
  if [ -h "$1" ]; then readlink -m -- "$1"; else printf '%s\n' "$1"; fi
}

# The known_… functions look up once what many probes need. The …_fact functions recall it. Starting a program
# costs 1 ms, under emulation more than 10 ms, so few are started. Each table begins and ends with a newline.

# recall TABLE KEY: set $found to the rest of the table's line that begins with KEY. Fail if there is none.
recall() {
  case $1 in *"
$2"*) ;; *) return 1 ;; esac
  found=${1#*"
$2"}
  found=${found%%"
"*}
}

# known_files FILE…: the state of each, what root_only asks about it, and the checksums of those that are regular files.
known_files() {
  states_table="
$(stat -c '%n	%a %U %G %F %s	%u %g %A' -- "$@" 2>/dev/null)
"
  for file; do
    shift
    if recall "$states_table" "$file	"; then case $found in *" regular "*) set -- "$@" "$file" ;; esac; fi
  done
  sums_table="
$(sha256sum -- "$@" 2>/dev/null </dev/null)
"
}

# known_settings FILE…: the values of settings below /proc/sys. The shell's read would ask for one byte after the other,
# and the kernel answers only the first.
known_settings() {
  settings_table="
$(grep -H '' -- "$@" 2>/dev/null)
"
}

# known_users NAME…, known_groups NAME…
known_users() {
  users_table="
$(getent passwd -- "$@")
"
}
known_groups() {
  groups_table="
$(getent group -- "$@")
"
}

# known_units NAME…, known_user_units NAME…: the properties of each, in blocks with an empty line between them.
known_units() {
  units_table=$(systemctl show -p Names,LoadState,UnitFileState,ActiveState,NeedDaemonReload -- "$@")
}
known_user_units() {
  units_table=$(systemctl --user show -p Names,LoadState,UnitFileState,ActiveState,NeedDaemonReload -- "$@")
}

# known_packages NAME…: state and version of each package in dpkg's status file.
known_packages() {
  packages_table="
$(dpkg-query -W -f '${Package}	${db:Status-Status} ${Version}\n' -- "$@" 2>/dev/null)
"
}

# file_state PATH: set $found to "MODE OWNER GROUP KIND SIZE". Fail if the file does not exist.
file_state() {
  recall "${states_table-}" "$1	" || found=$(stat -c '%a %U %G %F %s' -- "$1" 2>/dev/null) || return 1
  found=${found%%	*}
}

# file_sum PATH: set $found to the checksum of the content. Fail if it cannot be read.
file_sum() {
  case ${sums_table-} in
    *"  $1
"*)
      found=${sums_table%%"  $1
"*}
      found=${found##*"
"}
      ;;
    *) found=$(sha256sum 2>/dev/null <"$1") && found=${found%% *} ;;
  esac
}

# show PATH SIZE: print a file. The shell reads a small file byte by byte, which costs less than starting a program.
# If the result has the wrong length (a shell cannot hold a zero byte), cat prints the file.
show() {
  if [ "$2" -le 2048 ]; then
    text=""
    while IFS= read -r row; do
      text="$text$row
"
    done <"$1"
    text=$text$row
    if [ "${#text}" -eq "$2" ]; then
      printf %s "$text"
      return 0
    fi
  fi
  cat -- "$1"
}

# file_fact PATH SHA256 [quiet]: "absent", "other MODE OWNER GROUP KIND", or "file MODE OWNER GROUP SHA256". The content
# follows if it differs from the expected one and is small enough for a diff. It always follows if SHA256 is "none".
file_fact() {
  file_state "$1" || { echo absent; return 0; }
  size=${found##* } state=${found% *}
  case $state in
    *" regular file" | *" regular empty file") ;;
    *) echo "other $state"; return 0 ;;
  esac
  state=${state%" regular"*}
  if [ "$2" = none ]; then
    echo "file $state none"
    show "$1" "$size"
    return 0
  fi
  file_sum "$1"
  echo "file $state $found"
  if [ "$found" != "$2" ] && [ "${3-}" != quiet ] && [ "$size" -le 131072 ]; then show "$1" "$size"; fi
}

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
apt() {
  wait_for 300 apt_lists_free || true
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# apt_lists_free: succeed if no process is fetching package lists. flock(1) does not see apt's fcntl lock;
# /proc/locks does.
apt_lists_free() {
  [ -e /var/lib/apt/lists/lock ] || return 0
  ! grep -q ":$(stat -c %i /var/lib/apt/lists/lock) " /proc/locks
}

# files_sum FILE…: one checksum over the names and contents of all files that exist.
files_sum() {
  sum=$(for file; do if file_state "$file" && file_sum "$file"; then echo "$found  $file"; fi; done | sha256sum)
  echo "${sum%% *}"
}

# loaded_fact STAMP FILE…: checksums of the files when the service was started, and of the current files.
loaded_fact() {
  loaded=""
  if [ -e "$1" ]; then read -r loaded <"$1"; fi
  shift
  echo "Loaded=$loaded"
  echo "Files=$(files_sum "$@")"
}

# unit_fact NAME: the properties of one of the known units.
unit_fact() {
  rest=$units_table
  while [ "$rest" ]; do
    block=${rest%%"

"*}
    names=${block##*Names=}
    case " ${names%%"
"*} " in *" $1 "*) echo "$block"; return 0 ;; esac
    case $rest in *"

"*) rest=${rest#*"

"} ;; *) rest="" ;; esac
  done
}

# authorities_fact FILE…: a line "NAME SHA256 trusted" for each certificate. The last word is "untrusted" if the
# system's list does not contain it yet.
authorities_fact() {
  for file; do
    [ -e "$file" ] || continue
    title=${file##*/} title=${title%.crt} sum=$(sha256sum <"$file")
    if [ -e "/etc/ssl/certs/$title.pem" ]; then trust=trusted; else trust=untrusted; fi
    echo "$title ${sum%% *} $trust"
  done
}

# folder_fact PATH: "absent", "other", or "directory MODE OWNER GROUP".
folder_fact() {
  file_state "$1" || { echo absent; return 0; }
  case $found in *" directory "*) echo "directory ${found%" directory "*}" ;; *) echo other ;; esac
}

# setting_fact PATH: a kernel setting's value, or "unknown".
setting_fact() {
  if recall "$settings_table" "$1:"; then echo "$found"; else echo unknown; fi
}

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

# ufw_rule_fact PORT PROTOCOL: what UFW's files do with it from everywhere, "allow", "limit" or "none", in IPv4, and in
# IPv6 if UFW has it on.
ufw_rule_fact() {
  ufw_action "$1" "$2" 0.0.0.0/0 /etc/ufw/user.rules
  if [ ! -e /etc/default/ufw ] || grep -qiE '^IPV6="?yes"?' /etc/default/ufw; then
    ufw_action "$1" "$2" ::/0 /etc/ufw/user6.rules
  fi
}

# ufw_action PORT PROTOCOL ANYWHERE FILE: "allow", "limit" or "none".
ufw_action() {
  rule="(allow|limit)(_log|_log-all)? ($2|any) $1 $3 any $3 in( comment=.*)?"
  action=$(sed -nE "s,^### tuple ### $rule\$,\1,;T;p;q" "$4")
  echo "${action:-none}"
}

# firewall_fact RULE…: "enabled enforced" if UFW is enabled and the kernel has all of these rules, as iptables
# -S prints them. A rule that limits is as good as one that accepts.
firewall_fact() {
  if grep -qx 'ENABLED=yes' /etc/ufw/ufw.conf; then enabled=enabled; else enabled=disabled; fi
  enforced=enforced rules="
$(iptables -S)
"
  for rule; do
    case $rules in *"
$rule
"* | *"
${rule%" ACCEPT"} ufw-user-limit-accept
"*) ;; *) enforced=open ;; esac
  done
  echo "$enabled $enforced"
}

# key_fact FILE URL: "key BASE64" of an apt keyring. If it does not exist, also "offered BASE64" of the URL, or
# "failed REASON".
key_fact() {
  echo "key $(base64 -w0 -- "$1")"
  [ ! -s "$1" ] || return 0
  folder=$(mktemp -d)
  chmod 755 "$folder"
  if /usr/lib/apt/apt-helper download-file "$2" "$folder/key" >"$folder/log" 2>&1; then
    echo "offered $(base64 -w0 "$folder/key")"
  else
    echo "failed $(grep -m1 '^E:' "$folder/log" || tail -n1 "$folder/log")"
  fi
  rm -rf "$folder"
}

# now_fact: "now SECONDS" since 1970, by the guest's clock.
now_fact() {
  [ -n "${now-}" ] || now=$(date +%s)
  echo "now $now"
}

# sources_fact HOST OWN: a line "other PATH BASE64" for each file of apt's sources except OWN that names the host.
sources_fact() {
  grep -lsF -- "$1" /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources |
    while IFS= read -r file; do
      [ "$file" = "$2" ] || echo "other $file $(base64 -w0 -- "$file")"
    done
}

# keep_files FOLDER FILE…: copy those that exist into the folder. put_back FOLDER FILE…: make each what it was then, and
# remove those that did not exist, and the folder.
keep_files() {
  copies=$1
  shift
  for file; do if [ -e "$file" ]; then cp -a --parents -- "$file" "$copies"; fi; done
}
put_back() {
  copies=$1
  shift
  for file; do
    rm -f -- "$file"
    if [ -e "$copies$file" ]; then cp -a -- "$copies$file" "$file"; fi
  done
  rm -rf -- "$copies"
}

# apt_lists: fetch the package lists. A source that fails is reported, and does not stop what the others have.
apt_lists() {
  apt update || echo "some package sources failed; going on with the others"
}

# The four functions of a packages step; they share the variables ask and candidates.
# package_version NAME: set $found to the installed version. Fail if there is none.
package_version() {
  recall "$packages_table" "$1	installed "
}

# packages_installed NAME…: a line "installed NAME VERSION" for each that is.
packages_installed() {
  ask=0
  for name; do
    if package_version "$name"; then echo "installed $name $found"; fi
  done
}

# packages_lowest NAME VERSION: a line "old NAME VERSION" if an older one is installed.
packages_lowest() {
  if package_version "$1" && dpkg --compare-versions "$found" lt "$2"; then
    echo "old $1 $found"
    ask=1
  fi
}

# packages_candidates ALWAYS CHOICE…: "lists" if apt's lists are less than a week old, and "candidate NAME VERSION"
# for each package that apt offers, or "broken MESSAGE" if apt cannot read its sources. A choice is "a", "a|b" (one of
# them is enough), or "a|" (optional). apt-cache takes 0.3 s, so it runs only if a package is missing or ALWAYS is 1.
packages_candidates() {
  [ "$1" = 0 ] || ask=1
  shift
  candidates=""
  old_ifs=$IFS IFS="|"
  for choice; do
    have=""
    for name in $choice; do if package_version "$name"; then have=1; fi; done
    case $have$choice in 1* | *"|") ;; *) ask=1 ;; esac
  done
  # shellcheck disable=SC2048,SC2086 # split at the bars
  set -- $*
  IFS=$old_ifs
  [ "$ask" = 1 ] || return 0
  if [ -n "$(find /var/lib/apt/lists/partial -maxdepth 0 -mtime -7)" ] &&
    find /var/lib/apt/lists | grep -q _Packages; then echo lists; fi
  if ! offers=$(apt-cache policy -- "$@"); then
    echo "broken $(apt-cache policy 2>&1 >/dev/null | grep -m1 '^E:')"
    return 0
  fi
  candidates=$(printf '%s\n' "$offers" | while IFS= read -r line; do
    case $line in
      "  Candidate: (none)") ;;
      "  Candidate: "*) echo "candidate $name ${line#"  Candidate: "}" ;;
      " "*) ;;
      *) name=${line%:} ;;
    esac
  done)
  printf '%s\n' "$candidates"
}

# packages_offered NAME VERSION: a line "low NAME VERSION" if apt offers only an older one.
packages_offered() {
  version=$(printf '%s\n' "$candidates" | sed -n "s/^candidate $1 //p")
  if [ -n "$version" ] && dpkg --compare-versions "$version" lt "$2"; then echo "low $1 $version"; fi
}

# release_fact PACKAGE@VERSION: "offered VERSION INTEGRITY" from npm's registry, "unknown" if the registry has no such
# version, "unanswered MESSAGE" if the request fails, or nothing if npm is not installed. INTEGRITY is the checksum of
# the package's archive, or "none". npm's cache and log are in a temporary folder.
release_fact() {
  command -v npm >/dev/null || return 0
  folder=$(mktemp -d)
  if npm view --json --cache "$folder" --logs-max=0 "$1" version dist.integrity \
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
  found=sha512-$(openssl dgst -sha512 -binary "$archive" | base64 -w0)
  if [ "$found" != "$2" ]; then
    echo "the archive of $1 is not the expected one: its checksum is $found, not $2" >&2
    return 1
  fi
  echo "$archive"
}

# pnpm_integrity NAME TARGET: the checksum of the archive from which pnpm has installed the package whose program is
# TARGET, from pnpm's lock file, or "none".
pnpm_integrity() {
  lock=${2%"/node_modules/$1/"*}/pnpm-lock.yaml
  sum='s/.*integrity: \([^,} ]*\).*/\1/p'
  sed -n "/^  '\{0,1\}$1@[^(]*:\$/{n;$sum;}" "$lock" 2>/dev/null | head -n1 | grep . || echo none
}
