# UFW and the kernel's rules. Part of the prelude. POSIX sh. Sourcing this file runs nothing.

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
