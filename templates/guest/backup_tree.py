# ruff: noqa: ANN001, ANN201, ANN204, D102, D103, INP001, PTH116, PTH118, PTH123
"""The first half of the program that backup.py describes: look at the state directory, without what is excluded."""

import grp
import os
import pwd
import stat

SUFFIXES = (".sqlite", ".sqlite3", ".db", ".db3")
SIDECARS = ("-wal", "-shm", "-journal")
MAGIC = b"SQLite format 3\0"


class Tree:
    """What the state directory contains, apart from what is excluded."""

    def __init__(self, root, excluded, known):
        # `known` has the paths of the last time's databases: a closed one has no sidecar to recognize it by.
        self.root, self.excluded, self.known = root, excluded, known
        state = os.stat(root)
        self.ids, self.mode = (state.st_uid, state.st_gid), stat.S_IMODE(state.st_mode)
        self.names = {}
        self.owner = self.named(*self.ids)
        # `top` maps each top-level name to its number of files; -1 stands for an excluded directory.
        # `leaves` are the top-level names that are no directories: files, and links to anything.
        self.top, self.leaves, self.files, self.sparse = {}, [], 0, 0
        self.others, self.databases, self.plain, self.unreadable = [], {}, [], []
        self.closed = []  # what lacks a right for its owner that rsync adds to the mirror

    def walk(self):
        pending = [""]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(os.path.join(self.root, folder)) as found:
                    entries = {entry.name: entry for entry in found}
            except (FileNotFoundError, NotADirectoryError):  # vanished meanwhile
                continue
            except OSError:
                self.unreadable.append(folder)
                continue
            sidecars = {name.rpartition("-")[0] for name in entries if name.endswith(SIDECARS)}
            for name, entry in entries.items():
                self.take(f"{folder}/{name}" if folder else name, entry, sidecars, pending)

    def take(self, path, entry, sidecars, pending):
        is_folder = entry.is_dir(follow_symlinks=False)
        top = path.partition("/")[0]
        if self.excluded.matches(path, is_folder):
            if is_folder and "/" not in path:
                self.top[top] = -1
            return
        try:
            state = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError:  # the path is too long, for example; rsync reports it too
            self.unreadable.append(path)
            return
        self.rights(path, is_folder, state)
        self.top.setdefault(top, 0)
        if is_folder:
            pending.append(path)
            return
        self.files += 1
        self.top[top] += 1
        if "/" not in path:
            self.leaves.append(path)
        if stat.S_ISREG(state.st_mode):
            self.sparse += max(0, state.st_size - state.st_blocks * 512)
            self.database(path, entry.name, sidecars, state)
        elif entry.name.endswith(SUFFIXES):
            self.plain.append(path)

    def rights(self, path, is_folder, state):
        """Note an owner and a mode that the mirror does not have."""
        if (state.st_uid, state.st_gid) != self.ids:
            self.others.append([path, *self.named(state.st_uid, state.st_gid)])
        needed = 0o500 if is_folder else 0o400
        if state.st_mode & needed != needed and not stat.S_ISLNK(state.st_mode):
            self.closed.append([path, stat.S_IMODE(state.st_mode)])

    def database(self, path, name, sidecars, state):
        """Note a file that is a database, or that is not although its name says so."""
        if not name.endswith(SUFFIXES) and name not in sidecars and path not in self.known:
            return
        try:
            with open(os.path.join(self.root, path), "rb") as file:
                head = file.read(len(MAGIC))
        except OSError:
            head = b"?"
        if head == MAGIC or (not head and name.endswith(SUFFIXES)):
            self.databases[path] = state
        elif name.endswith(SUFFIXES):
            self.plain.append(path)

    def named(self, uid, gid):
        if (uid, gid) not in self.names:
            self.names[uid, gid] = (name(pwd.getpwuid, uid), name(grp.getgrgid, gid))
        return self.names[uid, gid]


def name(find, number):
    try:
        return find(number)[0]
    except KeyError:
        return str(number)
