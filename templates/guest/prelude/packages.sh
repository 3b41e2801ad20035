# Package sources, keyrings and packages. Part of the prelude. POSIX sh. Sourcing this file runs nothing.

# key_fact FILE URL: "key BASE64" of an apt keyring. If it does not exist, also "offered BASE64" of the URL, or
# "failed REASON". apt itself would wait four minutes for a server that is silent. Each of the two attempts connects
# twice.
key_fact() {
  echo "key $(base64 -w0 -- "$1")"
  [ ! -s "$1" ] || return 0
  folder=$(mktemp -d)
  chmod 755 "$folder"
  if /usr/lib/apt/apt-helper -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 \
    download-file "$2" "$folder/key" >"$folder/log" 2>&1; then
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
