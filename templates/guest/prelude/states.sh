# Services, certificates, folders and kernel settings. Part of the prelude. POSIX sh. Sourcing this file runs nothing.

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
