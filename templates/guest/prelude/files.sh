# Files, and the tables of what probes look up once. Part of the prelude. POSIX sh. Sourcing this file runs nothing.

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
