"""The pieces of OPA's syntax trees: walking them, and telling what a node is. Not what names in them
mean; that is `names.py` and `syntax.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

Node: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]

COMPREHENSIONS: Final = ("arraycomprehension", "setcomprehension", "objectcomprehension")
COMPARISONS: Final = ("eq", "equal", "neq", "lt", "lte", "gt", "gte")
MEMBER: Final = ("internal.member_2", "internal.member_3")
_SPELT: Final[Mapping[str, str]] = {
    "eq": "=",
    "equal": "==",
    "neq": "!=",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "plus": "+",
    "minus": "-",
    "mul": "*",
    "div": "/",
    "rem": "%",
    "and": "&",
    "or": "|",
    **dict.fromkeys(MEMBER, "in"),
}
TRUE: Final = {"type": "boolean", "value": True}
FALSE: Final = {"type": "boolean", "value": False}


def nodes(tree: Any) -> Iterator[Node]:
    """Yield every object of a syntax tree, outermost first; places are left out, and so is the root of
    a reference, which is no term.
    """
    waiting = [tree]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(reversed(one))
        elif isinstance(one, dict):
            yield one
            if one.get("type") == "ref" and one["value"][0]["type"] == "var":
                waiting.extend(reversed(one["value"][1:]))
            else:
                waiting.extend(value for key, value in reversed(one.items()) if key != "location")


def row_of(node: Mapping[str, Any], otherwise: int = 0) -> int:
    """Return the line that a node begins on."""
    return int((node.get("location") or {}).get("row", otherwise))


def bare(term: Any) -> Any:
    """Return the term without its place, so that it can be compared."""
    if isinstance(term, dict):
        return {key: bare(value) for key, value in term.items() if key != "location"}
    return [bare(one) for one in term] if isinstance(term, list) else term


def call_in(node: Node) -> Sequence[Node] | None:
    """Return operator and arguments where the node is a call, as a term or as an expression; None for
    anything else.
    """
    terms = node.get("value") if node.get("type") == "call" else node.get("terms")
    return terms if isinstance(terms, list) else None


def is_call(terms: Sequence[Node], *operators: str) -> bool:
    """Return whether the terms are a call of one of these builtins."""
    return operator_of(terms) in operators


def operator_of(terms: Sequence[Node]) -> str:
    """Return the name of what is called."""
    first = terms[0]
    return (
        ".".join(str(part["value"]) for part in first["value"])
        if first["type"] == "ref"
        else str(first["value"])
    )


def spelt(operator: str) -> str:
    """Return an operator as policies write it."""
    return _SPELT.get(operator, operator)


def variables(tree: Any) -> Iterator[str]:
    """Yield the name of each variable in a tree, as often as it stands there."""
    return (str(node["value"]) for node in nodes(tree) if node.get("type") == "var")


def steps_below(term: Node, root: str) -> list[Node] | None:
    """Return what follows `root` (`input`, `data`) in a reference to something below it; None for
    anything else.
    """
    match term:
        case {"type": "ref", "value": [{"type": "var", "value": found}, *rest]} if found == root:
            return rest
        case {"type": "var", "value": found} if found == root:
            return []
        case _:
            return None


def leading_names(steps: Sequence[Node]) -> Path:
    """Return the names that a reference begins with, as far as they are known."""
    names: list[str] = []
    for step in steps:
        if step["type"] != "string":
            break
        names.append(str(step["value"]))
    return tuple(names)


def own_name(rule: Node) -> str:
    """Return the first part of a rule's reference, by which its own package knows it."""
    head = rule["head"]
    return str(head["ref"][0]["value"] if head.get("ref") else head["name"])


def declared_in(body: Sequence[Node]) -> Iterator[str]:
    """Yield the names that a body declares for itself: by `some` and by `:=`."""
    for expression in body:
        terms = expression.get("terms")
        if isinstance(terms, list) and is_call(terms, "assign"):
            yield from variables(terms[1])
        elif isinstance(terms, dict) and "symbols" in terms:
            for symbol in terms["symbols"]:
                yield from variables(symbol["value"][1:-1] if symbol["type"] == "call" else symbol)
