"""Names resolved as OPA resolves them: in a resolved rule whatever does not begin with `input` or `data` is a
local variable, or a builtin.

OPA's parser leaves names as they are written, so a rule of the package, an import and a local variable look
alike there; even an operator can be a rule of the same name. What was overlooked for want of this would be
outside of every check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from regate_adapters.opa.acceptance.nodes import COMPREHENSIONS, Node, declared_in, variables

_UNTOUCHED: Final = ("location", "target")


def resolved(rule: Node, known: Mapping[str, list[Node]]) -> Node:
    """Return the rule with its names resolved. `known` are the names that a module knows beside its
    locals, each with what it stands for.
    """
    arguments = frozenset(variables(rule["head"].get("args") or []))
    return _Resolver(known).rule(rule, arguments)


class _Resolver:
    def __init__(self, known: Mapping[str, list[Node]]) -> None:
        self._known = known

    def rule(self, rule: Node, arguments: frozenset[str]) -> Node:
        body = rule.get("body") or []
        local = arguments | frozenset(declared_in(body))
        done: Node = {
            "head": self._head(rule["head"], local),
            "body": self._body(body, arguments),
        }  # annotations are no part of it
        if "else" in rule:
            done["else"] = self.rule(rule["else"], arguments)
        return done

    def _head(self, head: Node, local: frozenset[str]) -> Node:
        done = dict(head)
        for name in ("key", "value", "args"):
            if name in head:
                done[name] = self._term(head[name], local)
        if head.get("ref"):
            done["ref"] = [head["ref"][0], *self._term(head["ref"][1:], local)]
        return done

    def _body(self, body: Sequence[Node], outer: frozenset[str]) -> list[Node]:
        local = outer | frozenset(declared_in(body))
        return [self._term(expression, local) for expression in body]

    def _term(self, tree: Any, local: frozenset[str]) -> Any:
        if isinstance(tree, list):
            return [self._term(one, local) for one in tree]
        if not isinstance(tree, dict):
            return tree
        match tree:
            case {"type": "ref", "value": [{"type": "var", "value": str(root)}, *rest]}:
                return {
                    **tree,
                    "value": [*self._root(tree["value"][0], root, local), *self._term(rest, local)],
                }
            case {"type": "var", "value": str(root)}:
                meant = self._root(tree, root, local)
                return tree if len(meant) == 1 else {**tree, "type": "ref", "value": meant}
            case {"type": kind, "value": {"body": body} as inside} if kind in COMPREHENSIONS:
                within = local | frozenset(declared_in(body))
                done = {name: self._term(term, within) for name, term in inside.items() if name != "body"}
                return {**tree, "value": {**done, "body": self._body(body, local)}}
            case {"domain": domain, "body": body}:
                within = local | frozenset(variables([tree.get("key") or {}, tree["value"]]))
                return {**tree, "domain": self._term(domain, local), "body": self._body(body, within)}
            case {"type": "not", "body": body}:
                return {**tree, "body": self._body(body, local)}
            case {"type": "and" | "or", "lhs": left, "rhs": right}:
                return {**tree, "lhs": self._body(left, local), "rhs": self._body(right, local)}
            case _:
                return {
                    name: value if name in _UNTOUCHED else self._term(value, local)
                    for name, value in tree.items()
                }

    def _root(self, term: Node, name: str, local: frozenset[str]) -> list[Node]:
        return [term] if name in local else self._known.get(name, [term])
