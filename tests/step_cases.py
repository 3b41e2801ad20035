"""One step of each kind, or more, with the facts that matter to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.guest.kinds.accounts import authorized_keys, group, member, seeded_keys, user
from swarm.guest.kinds.archives import PNPM, pinned
from swarm.guest.kinds.commands import check, command
from swarm.guest.kinds.documents import json_file
from swarm.guest.kinds.edits import block, edit, line, user_block
from swarm.guest.kinds.files import directory, file, once, seed, user_file
from swarm.guest.kinds.firewall import firewall, firewall_default, firewall_rule
from swarm.guest.kinds.mounts import mount
from swarm.guest.kinds.node import fetched_node
from swarm.guest.kinds.npm import pnpm_global
from swarm.guest.kinds.owned import owned_file
from swarm.guest.kinds.settings import sysctl
from swarm.guest.kinds.units import linger, unit
from tests.step_cases_apt import APT_CASES, GOOD_KEY, total

if TYPE_CHECKING:
    from swarm.guest.engine.step import Step

__all__ = ["CASES", "GOOD_KEY"]

A = ("earlier",)


OWN = "uid 1000\ngroup 1000\nhome zed"
HELLO = total("hello\n")
KEY = "ssh-ed25519 AAAAfirst me"
KEYS = f"# BEGIN swarm keys\n{KEY}\n# END swarm keys\n"
LOADED = "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nNeedDaemonReload=no"
TWO_FILES = unit("x.service", config=("/etc/x", "/etc/y z"), after=A, reacts_to=("file /etc/x",))

CASES: dict[str, tuple[Step, tuple[str, ...]]] = {
    "file": (
        file("/etc/x y", "hello\n", mode="0640", owner="zed", group="adm", after=A, hidden=("hello",)),
        (
            f"file 640 zed adm {HELLO}",
            f"file 600 zed adm {HELLO}",
            f"file 640 root adm {HELLO}",
            f"file 640 zed root {HELLO}",
            "file 640 zed adm 00\nhi\n",
            "absent",
            "other 777 root root symbolic link",
        ),
    ),
    "file with defaults": (
        file("/etc/x", "hello\n", check="false"),
        (f"file 644 root root {HELLO}", "absent"),
    ),
    "file of root's": (
        owned_file("/etc/x", "hello\n"),
        (f"file 644 root root {HELLO}", "absent", "theirs"),
    ),
    "file of anybody's": (
        owned_file("/srv/it's", "hello\n", mode="0600", owner="zed"),
        (f"file 600 zed zed {HELLO}", f"file 600 zed root {HELLO}", "absent"),
    ),
    "file with leading zero": (file("/etc/x", "hello\n", mode="044"), (f"file 44 root root {HELLO}",)),
    "user file": (
        user_file("zed", "/home/zed/x", "hello\n", after=A),
        (f"file 644 zed zed {HELLO}", "absent"),
    ),
    "seed": (seed("zed", "/home/zed/x", "first", after=A, hidden=("first",)), ("there", "absent")),
    "file that is written once": (once("/etc/x", "first", after=A), ("there", "absent")),
    "folder": (
        directory("/srv/box", mode="0711", after=A),
        ("directory 711 root root", "directory 755 root root", "directory 711 zed root", "absent", "other"),
    ),
    "folder of a user": (
        directory("/home/zed/box", owner="zed"),
        (
            "directory 755 zed zed",
            "directory 700 zed zed",
            "directory 755 zed users",
            "directory 755 root root",
            "absent",
        ),
    ),
    "edit": (
        edit(
            "/etc/x", "x", lambda old: old.replace("a", "b") or "new\n", "b", mode="600", owner="zed", after=A
        ),
        (
            "file 640 root adm none\nb\n",
            "file 640 root adm none\na\nc\n",
            "absent",
            "other 755 root root directory",
        ),
    ),
    "edit with defaults": (edit("/etc/x", "x", lambda _: "new\n", "new"), ("absent",)),
    "line": (
        line("/etc/list", "color = blue", r"^color\b", after=A),
        (
            "absent",
            "file 644 root root none\ncolor = blue\n",
            "file 644 root root none\na\ncolor = blue",
            "file 644 root root none\ncolor = red\nsize = 1\n",
            "file 644 root root none\na\ncolor = red\ncolor = blue\nb\ncolor\n",
            "file 644 root root none\ncolors = red\n",
        ),
    ),
    "line without a pattern": (
        line("/etc/list", "one"),
        (
            "file 644 root root none\none\n",
            "file 644 root root none\none more\n",
            "file 644 root root none\none\none\n",
        ),
    ),
    "block": (
        block("/etc/list", "own", "a = 1\n", after=A),
        (
            "absent",
            "file 644 root root none\nx",
            "file 644 root root none\nx\n# BEGIN swarm own\na = 1\n# END swarm own\ny\n",
            "file 644 root root none\nx\n# BEGIN swarm own\nold\n# END swarm own",
        ),
    ),
    "user block": (
        user_block("zed", "/home/zed/.bashrc", "own", "export A=1", after=A),
        ("absent", "file 600 zed zed none\nx\n"),
    ),
    "JSON file": (
        json_file("/etc/x.json", lambda now: {"a": 1} | now, "with a", after=A),
        (
            "absent",
            "file 640 root adm none\n\n",
            'file 640 root adm none\n{ "a": 2 }\n',
            'file 640 root adm none\n{"b": [1, "x"]}\n',
            "file 640 root adm none\n[1]\n",
            "file 640 root adm none\n{,}\n",
            "other 777 root root symbolic link",
        ),
    ),
    "sysctl": (
        sysctl("vm.swappiness", "10"),
        (
            f"10\nfile 644 root root {total('# Written by swarm.' + chr(10) + 'vm.swappiness = 10' + chr(10))}",
            f"60\nfile 644 root root {total('# Written by swarm.' + chr(10) + 'vm.swappiness = 10' + chr(10))}",
            "10\nabsent",
            "60\nfile 644 root root 00",
            "unknown\nabsent",
        ),
    ),
    "group": (group("makers", after=A), ("there", "absent")),
    "user": (
        user("zed", home="/home/z d", home_mode="0750", after=A),
        (
            f"/home/z d:/bin/bash 750\n{OWN}",
            f"/home/z d:/bin/sh 750\n{OWN}",
            "/home/z d:/bin/bash missing\nuid 1000\ngroup 1000",
            "/home/z d:/bin/bash 750\nuid 1000\nhome zed",
            "/home/z d:/bin/bash 750\nuid 1000\ngroup 1000\nhome root",
            "/home/z d:/bin/bash 750\nuid 1000\ngroup 1000\nhome UNKNOWN",
            "/var/mail:/usr/sbin/nologin 750\nuid 8\ngroup 8",
            "/nonexistent:/usr/sbin/nologin 750\nuid 65534\ngroup 65534",
            "absent",
            "absent\ngroup 1004",
            "absent\ngroup 27",
            "absent\nhome root",
            "absent\nhome ann",
        ),
    ),
    "user with defaults": (user("zed", home="/home/zed"), (f"/home/zed:/bin/bash 755\n{OWN}", "absent")),
    "member": (member("zed", "makers", after=A), ("yes", "no")),
    "authorized keys": (
        authorized_keys("zed", "/home/zed", [KEY, "ssh-rsa AAAAsecond"], after=A),
        ("absent",),
    ),
    "authorized key": (
        authorized_keys("zed", "/home/zed", [KEY]),
        (
            f"file 600 zed zed none\n{KEYS}",
            f"file 644 zed zed none\n{KEYS}",
            f"file 600 zed zed none\n{KEY}\nssh-ed25519 AAAAother you\n",
            f"file 600 zed zed none\n{KEYS}x AAAAother\n{KEYS}",
        ),
    ),
    "keys of the first boot": (
        seeded_keys("zed", "/home/zed", [KEY], after=A),
        ("", "AAAAfirst", "AAAAfirst\nAAAAold", "AAAAold\nAAAAolder"),
    ),
    "root's keys of the first boot": (seeded_keys("root", "/root", [KEY]), ("AAAAold",)),
    "authorized keys of root": (
        authorized_keys("root", "/root", [KEY]),
        (f"file 600 root root none\n{KEYS}", "absent", "other 777 root root symbolic link"),
    ),
    "command": (
        command("of mine", "echo 'it'", unless="test -e /x", after=A, hidden=("it",)),
        ("done", "due"),
    ),
    "command of a user": (command("of mine", "echo it", unless="test -e /x", as_name="zed"), ("done", "due")),
    "check": (
        check("thing", "echo no", "yes", lambda fact: f"it is {fact}" if fact != "yes" else None),
        ("yes", "no"),
    ),
    "unit": (
        TWO_FILES,
        (
            f"{LOADED}\nLoaded=1\nFiles=1",
            f"{LOADED}\nLoaded=1\nFiles=2",
            f"{LOADED.replace('=no', '=yes')}\nLoaded=1\nFiles=1",
            f"{LOADED.replace('=enabled', '=static')}\nLoaded=1\nFiles=1",
            f"{LOADED.replace('=enabled', '=alias')}\nLoaded=1\nFiles=1",
            f"{LOADED.replace('=enabled', '=generated')}\nLoaded=1\nFiles=1",
            f"{LOADED.replace('=enabled', '=indirect')}\nLoaded=1\nFiles=1",
            f"{LOADED.replace('=enabled', '=disabled').replace('=active', '=failed')}\nLoaded=1\nFiles=2",
            "LoadState=not-found\nUnitFileState=\nActiveState=inactive\nNeedDaemonReload=no\nLoaded=\nFiles=2",
            "LoadState=loaded\nUnitFileState=\nActiveState=inactive\nNeedDaemonReload=no\nLoaded=\nFiles=",
        ),
    ),
    "unit that reloads": (
        unit("x.service", config=("/etc/x",), reload="kill -HUP 1"),
        (f"{LOADED}\nLoaded=1\nFiles=2",),
    ),
    "unit without files": (unit("x.timer"), (LOADED, "")),
    "unit of a user": (
        unit("x.service", user="zed", config=("/home/zed/x",)),
        (f"{LOADED}\nLoaded=1\nFiles=1", f"{LOADED}\nLoaded=1\nFiles=2", ""),
    ),
    "linger": (linger("zed", after=A), ("yes", "no")),
    "firewall default incoming": (
        firewall_default("incoming", "deny", after=A),
        ("DROP", "ACCEPT", "REJECT", ""),
    ),
    "firewall default routed": (firewall_default("routed", "allow"), ("DROP", "ACCEPT")),
    "firewall default outgoing": (firewall_default("outgoing", "reject"), ("REJECT", "ACCEPT")),
    "firewall rule": (
        firewall_rule(22, "tcp", after=A),
        ("allow\nallow", "allow", "limit\nlimit", "limit\nnone", "none\nnone", "none", ""),
    ),
    "firewall": (
        firewall(("/etc/ufw/a", "/etc/ufw/b"), chains=("-A X -j DROP",), after=A, reacts_to=("rule",)),
        (
            "enabled enforced\nUnitFileState=enabled\nLoaded=1\nFiles=1",
            "disabled open\nUnitFileState=enabled\nLoaded=1\nFiles=1",
            "enabled enforced\nUnitFileState=disabled\nLoaded=1\nFiles=1",
            "enabled enforced\nUnitFileState=enabled\nLoaded=1\nFiles=2",
        ),
    ),
    "line of a mount": (
        mount("my share", "/mnt/my\tshare\\", "virtiofs", "defaults,nofail", after=A)[0],
        (
            "absent",
            "file 644 root root none\n# my\\040share /mnt/my\\011share\\134 x\nUUID=1 / ext4 defaults 0 1\n",
            "file 644 root root none\nother /mnt/my\\011share\\134 9p defaults 0 0\nUUID=1 / ext4 defaults 0 1\n",
            "file 644 root root none\nmy\\040share  /mnt/my\\011share\\134 virtiofs defaults,nofail 0 0\n",
            "file 644 root root none\n"
            + "my\\040share /mnt/my\\011share\\134 virtiofs defaults,nofail 0 0\n" * 2,
        ),
    ),
    "mount": (
        mount("share", "/mnt/my share", "virtiofs", "defaults", after=A)[1],
        ("share  virtiofs", "other 9p", "none"),
    ),
    "Node of npm": (
        fetched_node("24.x", "24.16.2", after=A),
        ("24.18.0", "24.16.2", "24.16.1", "24.15.9", "26.1.0", "2.99.0", "", "24"),
    ),
    "Node of npm in one version": (fetched_node("24.17.0", "24.16"), ("24.17.0", "24.18.0", "")),
    "pnpm package": (
        pnpm_global("zed", "claw", "/home/zed", "/var/lib/record", after=A),
        (
            "1.2.3\n1.2.3\nsha512-a\nsha512-a",
            "1.2.3\n1.2.3\nsha512-b\nsha512-a",
            "1.2.3\n1.2.3\nsha512-a\nnone",
            "none\n1.2.3\nnone\nsha512-a",
            "1.2.2\n1.2.3\nsha512-b\nnone",
            "1.2.3\nnone\nsha512-a\nnone",
            "none\nnone\nnone\nnone",
        ),
    ),
    **APT_CASES,
    "pinned package": (pinned(PNPM, after=A), ("12.21.0", "12.20.0", "")),
}
