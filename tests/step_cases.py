"""One step of each kind, or more, with the facts that matter to it."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.guest.kinds.accounts import authorized_keys, group, member, user
from swarm.guest.kinds.commands import check, command
from swarm.guest.kinds.documents import json_file
from swarm.guest.kinds.edits import block, edit, line, user_block
from swarm.guest.kinds.files import directory, file, once, seed, user_file
from swarm.guest.kinds.firewall import firewall, firewall_default, firewall_rule
from swarm.guest.kinds.mounts import mount
from swarm.guest.kinds.npm import npm_global, pnpm_global
from swarm.guest.kinds.owned import owned_file
from swarm.guest.kinds.packages import packages
from swarm.guest.kinds.repositories import Repository, apt_key, apt_repository
from swarm.guest.kinds.settings import sysctl
from swarm.guest.kinds.units import linger, unit

if TYPE_CHECKING:
    from swarm.guest.engine.step import Step

__all__ = ["CASES", "GOOD_KEY"]

A = ("earlier",)


def total(content: str) -> str:
    """The checksum of a file's content."""
    return hashlib.sha256(content.encode()).hexdigest()


def other(content: str) -> str:
    """A file of apt's sources as a fact."""
    return b64encode(f"{content}\n".encode()).decode()


HELLO = total("hello\n")
KEY = "ssh-ed25519 AAAAfirst me"
KEYS = f"# BEGIN swarm keys\n{KEY}\n# END swarm keys\n"
# A key that was made for these tests.
PGP = Path(__file__).parent / "unit" / "test_guest_kinds.pgp"
VENDOR = Repository(
    "vendor",
    "https://pkgs.example.com/{id}",
    "{codename}",
    "main",
    "https://pkgs.example.com/key.asc",
    "BFB6 D5D6 FB93 E784 C3F2 BEBB 40FA F1DC 4AB7 B401",
    ("tool", "other"),
)
PLAIN = Repository("plain", "https://x.example.com/", "./", "", "https://x.example.com/k", VENDOR.fingerprint)
GOOD_KEY = b64encode(PGP.read_bytes()).decode()
OS, LATER = (f"os debian bookworm amd64\nnow {now}" for now in (1_700_000_000, 1_900_000_000))
SOURCES = total(VENDOR.sources("debian bookworm amd64"))
WHOLE = f"sources {SOURCES}\npin {total(VENDOR.pins)}\nkey {GOOD_KEY}"
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
        ("directory 755 zed zed", "directory 700 zed zed", "absent"),
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
        ("/home/z d:/bin/bash 750", "/home/z d:/bin/sh 750", "/home/z d:/bin/bash missing", "absent"),
    ),
    "user with defaults": (user("zed", home="/home/zed"), ("/home/zed:/bin/bash 755", "absent")),
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
    "firewall rule": (firewall_rule(22, "tcp", after=A), ("allowed", "none")),
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
    "packages": (
        packages("some", ("a", "b|c", "d|"), after=A),
        (
            "installed a 1\ninstalled b 1",
            "installed a 1\nlists\ncandidate b 2\ncandidate c 2",
            "lists\ncandidate a 1\ncandidate c 2\ncandidate d 3",
            "installed a 1\ninstalled c 1",
            "installed a 1\nlists\ncandidate b 1\ncandidate d 1",
            "installed a 1",
            "lists\ncandidate b 1",
            "lists",
            "installed a\ninstalled b 1 extra\nlists",
            "installed a 1\nlists\nbroken E: Malformed entry 1 in list file /etc/apt/sources.list.d/x.list (Suite)",
            "installed a 1\nlists\nbroken ",
            "installed a 1\ninstalled b 1\nbroken E: Malformed",
        ),
    ),
    "packages of a repository": (
        packages("some", ("a",), from_repository=True),
        ("lists", "", "broken E: Conflict"),
    ),
    "packages from a version on": (
        packages("some", ("a", "b"), at_least={"a": "2.1", "b": "3"}),
        (
            "installed a 2.1\ninstalled b 3",
            "installed a 2.0\ninstalled b 3\nold a 2.0\nlists\ncandidate a 2.2\ncandidate b 3",
            "lists\ncandidate a 2.0\ncandidate b 2\nlow a 2.0\nlow b 2",
        ),
    ),
    "packages upgraded": (
        packages("some", ("a", "b|c"), upgrade=True),
        (
            "installed a 1\ninstalled b 1\nlists\ncandidate a 1\ncandidate b 1",
            "installed a 1\ninstalled b 1\nlists\ncandidate a 2\ncandidate b 1",
            "installed a 1\ninstalled b 1",
        ),
    ),
    "repository": (
        apt_repository(VENDOR, after=A),
        (
            f"{OS}\nsources \npin \nkey \noffered {GOOD_KEY}",
            f"{OS}\nsources 0\npin 0\nkey {GOOD_KEY}",
            f"{OS}\n{WHOLE}",
            f"{OS}\nsources {SOURCES}\npin 0\nkey {GOOD_KEY}",
            f"{OS}\nsources 0\npin {total(VENDOR.pins)}\nkey {GOOD_KEY}",
            f"{OS}\nsources \npin \nkey \nfailed E: no route",
            f"{OS}\nsources \npin \nkey \noffered AAAA",
            f"{OS}\nsources \npin \nkey %%%",
            # The key is good until November 2029.
            f"{LATER}\nsources \npin \nkey \noffered {GOOD_KEY}",
            f"{LATER}\n{WHOLE}",
            # Sources of others.
            f"{OS}\nother /etc/apt/sources.list.d/other.list {other('deb https://pkgs.example.com/x y main')}\n{WHOLE}",
            f"{OS}\nother /etc/apt/sources.list {other('deb https://pkgs.example.com/debian bookworm main')}\n{WHOLE}",
            f"{OS}\nother /etc/apt/sources.list {other('deb https://pkgs.example.com/debian bookworm test')}\n{WHOLE}",
        ),
    ),
    "repository without pins": (
        apt_repository(PLAIN),
        (
            f"os debian  amd64\nsources {total(PLAIN.sources('debian  amd64'))}\npin \nkey {GOOD_KEY}",
            f"os debian\nnow 1700000000\nsources \npin \nkey \noffered {GOOD_KEY}",
        ),
    ),
    "key of a repository": (
        apt_key(VENDOR, after=A),
        (
            f"now 1700000000\nkey {GOOD_KEY}",
            f"now 1900000000\nkey {GOOD_KEY}",
            "now 1900000000\nkey ",
            "now 1900000000\nkey AAAA",
        ),
    ),
    "npm package": (
        npm_global("thing", "24.x", "thing --version", lowest="24.16.2", after=A),
        ("24.16.2", "24.16.1", "24.15.9", "26.1.0", "2.99.0", "", "24"),
    ),
    "npm package in one version": (
        npm_global("thing", "24.17.0", "true", program="/x/npm"),
        ("24.17.0", "24.18.0", ""),
    ),
    "npm package, latest": (npm_global("thing", "latest", "true"), ("0.0.1", "")),
    "npm package, major": (npm_global("thing", "9", "true"), ("9.1.0", "10.0.0")),
    "pnpm package": (
        pnpm_global("zed", "claw", "/home/zed", "/var/lib/record", after=A),
        ("1.2.3\n1.2.3", "none\n1.2.3", "1.2.2\n1.2.3", "1.2.3\nnone", "none\nnone"),
    ),
}
