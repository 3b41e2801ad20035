"""Handle command-line arguments around Invoke's parser: requests for help, repeated options, mistakes."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from invoke.exceptions import ParseError

from swarm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from invoke.parser.context import ParserContext

__all__ = ["explain", "help_for", "merged", "unknown_option"]

_HELP = ("--help", "-h")


def help_for(words: Sequence[str], tasks: Mapping[str, ParserContext]) -> str | None:
    """Return the task for which `words` request help, "" for ./inv itself, or None if they request none.

    Both `help TASK` and `TASK … --help` do, the latter also where a value is missing: `provision --host --help`.
    """
    if words[:1] == ["help"]:
        return words[1] if len(words) > 1 else ""
    index = next((index for index, word in enumerate(words) if word in _HELP), None)
    if index is None:
        return None
    return [name for name, _ in _split(words[:index], tasks)][-1]


def merged(words: Sequence[str], tasks: Mapping[str, ParserContext], option: str = "--host") -> list[str]:
    """Join the values of an option that a task is given several times: `--host a --host b` becomes `--host a,b`."""
    result: list[str] = []
    for _, own in _split(words, tasks):
        result += _merged(own, option)
    return result


def _merged(words: list[str], option: str) -> list[str]:
    values, rest, place = list[str](), list[str](), 0
    given = iter(words)
    for word in given:
        name, equals, value = word.partition("=")
        if name != option:
            rest.append(word)
            continue
        following = value if equals else next(given, None)
        if following is None:
            return words  # Invoke reports the missing value
        place = place if values else len(rest)
        values.append(following)
    return [*rest[:place], option, ",".join(values), *rest[place:]] if len(values) > 1 else words


def _split(words: Sequence[str], tasks: Mapping[str, ParserContext]) -> Iterator[tuple[str, list[str]]]:
    """Split a command line into its tasks, each with all of its words, its name included. The first name is ""."""
    name, own, before = "", list[str](), ""
    for word in words:
        flag = tasks[name].flags.get(before) if name else None
        if word in tasks and not (flag and flag.takes_value):
            yield name, own
            name, own = word, []
        own.append(word)
        before = word
    yield name, own


def unknown_option(
    words: Sequence[str], tasks: Mapping[str, ParserContext], core: ParserContext
) -> UsageError | None:
    """Return an error for the first `--option` that neither its task nor ./inv has.

    Invoke would take it as the value of a required option that is still missing: `start --hots zap` as host "--hots".
    """
    for name, own in _split(words, tasks):
        if not name:
            continue
        known = {**core.flags, **core.inverse_flags, **tasks[name].flags, **tasks[name].inverse_flags}
        before = ""
        for word in own:
            option, flag = word.partition("=")[0], tasks[name].flags.get(before)
            if option.startswith("--") and option not in known and not (flag and flag.takes_value):
                return _unknown(option, name, (), tasks[name].flag_names())
            before = word
    return None


def explain(error: ParseError | ValueError, names: Sequence[str], words: Sequence[str] = ()) -> UsageError:
    """Turn an error of Invoke's parser into one that names the nearest task or option. `names` are the tasks' names."""
    if not isinstance(error, ParseError):
        return _not_a_number(error, words)
    text = str(error)
    where = error.context.name if error.context else None
    show = f"./inv --help {where}" if where else "./inv --help"
    if match := re.fullmatch(r"No idea what '(.*)' is!", text, re.DOTALL):
        options = error.context.flag_names() if error.context else ()
        return _unknown(match[1], where, names, options)
    if match := re.match(r"[Ff]lag <Argument: ([\w-]+).*needed value", text):
        return UsageError(f"the option --{match[1]} needs a value", f"{show} says which")
    if match := re.search(r"did not receive required positional arguments: (.*)", text):
        missing = ", ".join(f"--{name}" for name in re.findall(r"'([\w-]+)'", match[1]))
        return UsageError(f"{where} needs {missing}", f"{show} shows its options")
    return UsageError(text[0].lower() + text[1:], f"{show} shows its options")


def _unknown(word: str, where: str | None, names: Iterable[str], options: Iterable[str]) -> UsageError:
    if not word.startswith("-"):
        near = get_close_matches(word, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "./inv --list shows every task"
        return UsageError(f"there is no task {word!r}", hint)
    near = get_close_matches(word, options, n=1)
    show = f"./inv --help {where}" if where else "./inv --help"
    hint = f"did you mean {near[0]}?" if near else f"{show} shows its options"
    return UsageError(f"{where or './inv'} has no option {word}", hint)


def _not_a_number(error: ValueError, words: Sequence[str]) -> UsageError:
    """Name the option whose value Python could not convert; its own message ends in the value, quoted."""
    for before, word in zip(("", *words), words, strict=False):
        option, value = word.split("=", 1) if word.startswith("-") and "=" in word else (before, word)
        if option.startswith("-") and str(error).endswith(f": {value!r}"):
            return UsageError(f"{option}: expected a number, not {value!r}", f"for example: {option} 60")
    return UsageError(str(error), "./inv --help TASK shows a task's options")
