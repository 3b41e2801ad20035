"""The rules that make mutants of a module: one changed operator, constant, condition or return each."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import CodeType

    Change = tuple[str, Any, Any, Any]

__all__ = ["Mutant", "mutants"]

_SWAPPED = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.And, ast.Or), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)),
    *((ast.In, ast.NotIn), (ast.Add, ast.Sub), (ast.Mult, ast.FloorDiv), (ast.BitOr, ast.BitAnd)),
)
OPPOSITES: dict[type[ast.AST], Any] = {
    **{one: other for pair in _SWAPPED for one, other in (pair, pair[::-1])},
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
NOT_COMPUTED = {
    "annotation",
    "returns",
    "decorator_list",
}  # fields with types, or with what dataclass() is to generate


@dataclass(eq=False)
class Mutant:
    """One change: `node.field` becomes `new`. `span` holds the lines of the statement, without a block below it."""

    path: Path
    tree: ast.Module
    node: ast.AST
    field: str
    new: Any
    change: str
    line: int
    span: range

    def code(self) -> CodeType:
        """Apply the change, for good, and return the module's code. For a forked process."""
        setattr(self.node, self.field, self.new)
        return compile(ast.fix_missing_locations(self.tree), self.path, "exec")


def mutants(path: Path) -> list[Mutant]:
    """Return every mutant of the module `path`, in the order of its source."""
    tree = ast.parse(path.read_bytes(), path)
    return [
        Mutant(path, tree, node, name, new, f"{_text(before)} → {_text(after)}", before.lineno, span)
        for node, span in _nodes(tree, range(0))
        for name, new, before, after in (*_operators(node), *_values(node), *_conditions(node))
    ]


def _nodes(node: ast.AST, span: range) -> Iterator[tuple[ast.AST, range]]:
    """Yield each node below `node` whose change a test could see, with the lines of its statement."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in NOT_COMPUTED and not _is_exempt(child, node):
                own = _own_lines(child) if isinstance(child, ast.stmt) else span
                yield child, own
                yield from _nodes(child, own)


def _is_exempt(child: ast.AST, parent: ast.AST) -> bool:
    """Return whether `child` is a docstring, only for type checkers, a list of exports or an error's message."""
    if isinstance(child, ast.If):
        return ast.unparse(child.test) in {"TYPE_CHECKING", "__name__ == '__main__'"}
    if isinstance(child, ast.Assign):
        return ast.unparse(child.targets[0]) == "__all__"
    text = isinstance(child, ast.JoinedStr) or (
        isinstance(child, ast.Constant) and isinstance(child.value, str)
    )
    return isinstance(child, ast.Raise) or (text and isinstance(parent, ast.Expr))


def _own_lines(statement: ast.stmt) -> range:
    body = getattr(statement, "body", None) or getattr(statement, "cases", None)
    first = body[0] if body else None
    after = getattr(first, "lineno", None) or getattr(getattr(first, "pattern", None), "lineno", None)
    return range(statement.lineno, max(after or (statement.end_lineno or 0) + 1, statement.lineno + 1))


# The three rules yield what may change in a node: field, new value, and the node to show as before and as after.


def _operators(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare(left, ops, others):
            for index, op in enumerate(ops):
                new = [*ops[:index], OPPOSITES[type(op)](), *ops[index + 1 :]]
                yield "ops", new, node, ast.Compare(left, new, others)
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign() if opposite := OPPOSITES.get(type(node.op)):
            yield "op", opposite(), node, type(node)(**dict(ast.iter_fields(node)) | {"op": opposite()})
        case ast.UnaryOp(ast.Not(), operand):
            yield "operand", _negated(operand), node, operand


def _values(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Constant) and (other := _other(node.value)) is not None:
        yield "value", other, node, ast.Constant(other)
    if isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
        yield "value", ast.Constant(None), node, ast.Return(ast.Constant(None))


def _conditions(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.If(test) | ast.While(test) | ast.IfExp(test) if _is_plain(test):
            yield "test", _negated(test), test, _negated(test)
        case ast.comprehension(ifs=ifs):
            for index, test in enumerate(ifs):
                if _is_plain(test):
                    yield "ifs", [*ifs[:index], _negated(test), *ifs[index + 1 :]], test, _negated(test)


def _other(value: object) -> str | float | None:
    """Return a constant other than `value`, or None for one that stays."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"XX{value}" if isinstance(value, str) else None


def _is_plain(test: ast.expr) -> bool:
    """Return whether no other rule negates the condition, as one does with `a == b`, `not a` and `True`."""
    negated_elsewhere = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return not isinstance(test.ops[0], negated_elsewhere)
    return not isinstance(test, ast.Constant) and not (
        isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
    )


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _text(node: ast.AST, most: int = 90) -> str:
    line = " ".join(ast.unparse(ast.fix_missing_locations(node)).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
