# ruff: noqa: ANN001, ANN002, ANN201, ANN202, INP001, S608, TID251, UP031
"""Runs in the guest as root during a drill: try to get out, check the restored databases, ask the gateway.

ORDER is put in front of this text by swarm.backup.drill. The answer is the last line of the output, as JSON. Empty
lines before it are signs of life.
"""

import contextlib
import http.client
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse

ORDER = globals()["ORDER"]
PATIENCE = 4  # seconds for a connection attempt


def ask_ip(*words):
    """Run ip(8), and return what it prints."""
    done = subprocess.run(["ip", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode("utf-8", "replace").strip()


def reach():
    """Try to connect to each target. With a gateway, also try over a default route of our own through it."""
    answered = set()
    before = ask_ip("route", "show", "default")
    attempts(answered)
    if ORDER["gateway"]:
        ask_ip("route", "add", "default", "via", ORDER["gateway"])
        try:
            attempts(answered)
        finally:
            ask_ip("route", "del", "default", "via", ORDER["gateway"])
    return {"answered": sorted(answered), "route": before[:200]}


def attempts(answered):
    """Try to connect to all targets at once."""

    def one(host, port):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=PATIENCE):
            answered.add(host)

    threads = [threading.Thread(target=one, args=tuple(target)) for target in ORDER["targets"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def databases():
    """Check each database, and compare the rows of its tables with the manifest."""
    problems = []
    for path, tables in sorted(ORDER["databases"].items()):
        try:
            problems += ["%s: %s" % (path, each) for each in unsound(path, tables)]
        except sqlite3.Error as error:
            problems.append("%s: %s" % (path, error))
    return {"problems": problems[:50]}


def unsound(path, tables):
    """Yield what is wrong with a database. The file is not changed."""
    full = (ORDER["state"] + "/" + path).encode("utf-8", "surrogateescape")
    name = "file:%s?mode=ro&immutable=1" % urllib.parse.quote(full)
    with contextlib.closing(sqlite3.connect(name, uri=True)) as connection:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            yield str(answer)[:200]
            return
        for table, rows in sorted(tables.items()):
            quoted = table.replace('"', '""')
            (found,) = connection.execute('SELECT count(*) FROM "%s"' % quoted).fetchone()
            if found != rows:
                yield "%s has %d rows, expected %d" % (table, found, rows)


def gateway():
    """Wait until the gateway is ready. At the end of the time, say whether it lives at least."""
    end = time.monotonic() + ORDER["timeout"]
    while reason := status("/readyz"):
        if time.monotonic() >= end:
            return {"ready": False, "alive": not status("/healthz"), "reason": reason}
        time.sleep(1)
    return {"ready": True, "alive": True, "reason": ""}


def status(path):
    """Return why the gateway does not answer with 200, or nothing."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", ORDER["port"], timeout=10)
        try:
            connection.request("GET", path)
            code = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return str(error)[:200] or type(error).__name__
    return "" if code == http.HTTPStatus.OK else "HTTP status %d" % code


def beat():
    """Write an empty line every 15 s."""
    while True:
        time.sleep(15)
        sys.stdout.write("\n")
        sys.stdout.flush()


threading.Thread(target=beat, daemon=True).start()
ANSWER = {"reach": reach, "databases": databases, "gateway": gateway}[ORDER["action"]]()
sys.stdout.write("\n" + json.dumps(ANSWER) + "\n")
sys.stdout.flush()
