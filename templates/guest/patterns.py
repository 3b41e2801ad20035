# ruff: noqa: INP001
"""What a backup leaves out: patterns of rsync, read as rsync reads them. Sent to the guest for backup and restore."""

import os
import re

NEVER = "(?!)"  # what a malformed pattern matches, such as one with an open bracket
CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t-\r ",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class Excluded:
    """Patterns as two regular expressions, for names and for whole paths. They match bytes, so that `?` is one byte.

    What they match begins with a slash, and ends with one if it is a directory.
    """

    def __init__(self, patterns: "list[str]") -> None:
        names, paths = [], []
        for pattern in patterns:
            text = pattern.encode("utf-8", "surrogateescape").decode("latin-1")
            folder = len(text) > 1 and text.endswith("/")
            text = text[:-1] if folder else text
            found = regex(text) if re.search(r"[*?\[]", text) else re.escape(text)
            if text.endswith("***"):  # matches the slash of a directory
                found += "(?<=/)" if folder else ""
            else:
                found += "(?<!/)/" if folder else "(?<!/)/?"
            if "/" not in text and "**" not in text:
                names.append(f"/{found}")
            else:
                paths.append(found if text.startswith(("/", "**")) else f".*/{found}")
        self.name, self.path = joined(names), joined(paths)

    def matches(self, path: str, is_folder: bool) -> bool:  # noqa: FBT001
        """Whether a pattern matches this path, relative to the state directory, itself."""
        whole = b"/" + os.fsencode(path) + (b"/" if is_folder else b"")
        return bool(self.name.fullmatch(whole, whole.rindex(b"/", 0, -1)) or self.path.fullmatch(whole))


def joined(expressions: "list[str]") -> "re.Pattern[bytes]":
    """Return what matches any of these."""
    return re.compile("|".join(expressions or [NEVER]).encode("latin-1"), re.DOTALL)


def regex(text: str) -> str:
    """Translate a pattern with wildcards."""
    out, at = "", 0
    while at < len(text):
        stars = len(text) - at - len(text[at:].lstrip("*"))
        if stars:
            out, at = out + ("[^/]*" if stars == 1 else ".*"), at + stars
        elif text[at] == "?":
            out, at = out + "[^/]", at + 1
        elif text[at] == "[":
            found, at = bracket(text, at + 1)
            out += found
        elif text[at] == "\\":
            out, at = out + (re.escape(text[at + 1 : at + 2]) or NEVER), at + 2
        else:
            out, at = out + re.escape(text[at]), at + 1
    return out


def bracket(text: str, at: int) -> "tuple[str, int]":
    """Translate a set of characters, whose first one is at `at`. Return where it ends too."""
    negated = text[at : at + 1] in {"!", "^"}
    begin = at = at + negated
    found, previous = "", ""
    try:
        while at == begin or text[at] != "]":
            named = re.compile(r"\[:([^\]]*):\]").match(text, at)
            if named:
                found, previous, at = found + CLASSES[named[1]], "", named.end()
            elif text[at] == "-" and previous and text[at + 1] != "]":
                at += 1 + (text[at + 1] == "\\")
                found += f"{re.escape(previous)}-{re.escape(text[at])}" if previous <= text[at] else ""
                previous, at = "", at + 1
            else:
                at += text[at] == "\\"
                found, previous, at = found + re.escape(text[at]), text[at], at + 1
    except (IndexError, KeyError):
        return NEVER, len(text)
    return f"(?!/)[{'^' if negated else ''}{found}]", at + 1
