"""The authoring rules of filterable policies, found in the syntax tree: what a filter cannot say, or would say differently than full evaluation.

They bind the rules that are reached from the `allow` of a filterable package and touch the unknown row. Each was seen to go wrong: a filter
that widens, hides, or costs seconds for a caller with many groups. What a residual means is the translator's business
(`regate_adapters.opa.residual`), and `agreement.py` compares the two on rows; here the line at fault is named, with what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from regate_gateway.policy.findings import Finding
from regate_gateway.policy.syntax import Definition, Node, Path, Policies, is_call, nodes, operator_of, row_of
from regate_orchestrator.schema import FieldType, RowSchema

FILTERABLE: Final[Mapping[str, str]] = {
    "chunk": "chunk",
    "store": "store",
    "file": "file",
    "history": "item",
    "prompt": "prompt",
}
"""Package below `regate` to the row that is unknown when its `allow` is compiled into a filter."""

_COMPARISONS: Final = ("eq", "equal", "neq", "lt", "lte", "gt", "gte")
_TEXT: Final = ("startswith", "endswith", "contains")
_MEMBER: Final = ("internal.member_2", "internal.member_3")
_COMPREHENSIONS: Final = ("arraycomprehension", "setcomprehension", "objectcomprehension")
_UNREPEATABLE: Final = ("time.now_ns", "http.send", "rand.intn", "uuid.rfc4122", "opa.runtime", "net.lookup_ip_addr")
_TRUE: Final = {"type": "boolean", "value": True}
_FALSE: Final = {"type": "boolean", "value": False}

_LITERALS: Final[Mapping[str, FieldType]] = {"string": "string", "number": "number", "boolean": "boolean"}
_KNOWN: Final[Mapping[Path, FieldType]] = {
    ("now",): "number",
    ("principal", "id"): "string",
    ("principal", "tenant"): "string",
    ("principal", "clearance"): "number",
    **{("principal", name): "list" for name in ("teams", "roles", "projects", "namespaces", "scopes")},
}


def authoring_findings(policies: Policies, schemas: Mapping[str, RowSchema]) -> list[Finding]:
    """Return every breach of the authoring rules, in the order of files and lines. `schemas` are the row schemas by the row's name."""
    found: list[Finding] = []
    for package, unknown in FILTERABLE.items():
        entrypoint = ("data", "regate", package, "allow")
        reached = policies.reached(entrypoint)
        touching = _touching(policies, reached, unknown)
        for path in reached:
            for definition in policies.rules[path]:
                found += _unrepeatable(definition)
                if path in touching or path == entrypoint:
                    reader = _Reader(policies, definition, unknown, schemas.get(unknown), touching)
                    found += reader.rule(is_entrypoint=path == entrypoint)
    return sorted(dict.fromkeys(found), key=lambda finding: (finding.file, finding.row, finding.code))


def _touching(policies: Policies, reached: set[Path], unknown: str) -> set[Path]:
    """Return the reached rules that mention the row, or a rule that does."""
    touching = {path for path in reached if any(_mentions(definition.node, unknown) for definition in policies.rules[path])}
    while True:
        more = {
            path
            for path in reached - touching
            for definition in policies.rules[path]
            if any(named in touching for referred in definition.refers for named in policies.named(referred))
        }
        if not more:
            return touching
        touching |= more


def _mentions(tree: Any, unknown: str) -> bool:
    """Return whether a syntax tree reads the row, or the whole input in a way that may."""
    if isinstance(tree, list):
        return any(_mentions(value, unknown) for value in tree)
    if not isinstance(tree, dict):
        return False
    if (parts := _input_parts(tree)) is not None:
        return not parts or parts[0]["type"] != "string" or parts[0]["value"] == unknown or _mentions(parts, unknown)
    terms = tree.get("value") if tree.get("type") == "call" else tree.get("terms")
    if isinstance(terms, list) and is_call(terms, "object.get") and _input_parts(terms[1]) == [] and terms[2]["type"] == "string":
        return bool(terms[2]["value"] == unknown) or _mentions(terms[3:], unknown)
    return any(_mentions(value, unknown) for key, value in tree.items() if key not in ("location", "with"))


def _input_parts(term: Node) -> list[Node] | None:
    """Return what follows `input` in a reference; None for anything else."""
    match term:
        case {"type": "ref", "value": [{"type": "var", "value": "input"}, *rest]}:
            return rest
        case {"type": "var", "value": "input"}:
            return []
        case _:
            return None


def _unrepeatable(definition: Definition) -> Iterator[Finding]:
    for node in nodes([definition.node.get("body"), definition.node.get("else"), definition.head.get("value")]):
        terms = node.get("value") if node.get("type") == "call" else node.get("terms")
        if isinstance(terms, list) and is_call(terms, *_UNREPEATABLE):
            message = f"{operator_of(terms)} answers differently each time, so a filter made with it ages; use input.now, in epoch seconds"
            yield Finding("wall-clock", message, definition.module.file, row_of(node, row_of(definition.node)))


@dataclass
class _Scope:
    """The local variables of a body that matter: elements of the row's lists, and elements of known collections of the input."""

    elements: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)


class _Reader:
    """Reads one definition of one rule."""

    def __init__(self, policies: Policies, definition: Definition, unknown: str, schema: RowSchema | None, touching: set[Path]) -> None:
        self._policies = policies
        self._definition = definition
        self._unknown = unknown
        self._schema = schema
        self._touching = touching
        self._row = f"input.{unknown}"
        self._line = row_of(definition.node)
        self._found: list[Finding] = []

    def rule(self, *, is_entrypoint: bool) -> list[Finding]:
        """Return what is wrong with the rule."""
        node, head = self._definition.node, self._definition.head
        value = _bare(head.get("value", _TRUE))
        name = self._definition.path[-1]
        if node.get("default"):
            if not is_entrypoint:
                self._say(
                    "default-on-helper",
                    f"{name} has a default; leave it out: a helper is true or undefined, and `not {name}` holds when it is",
                )
            elif value != _FALSE:
                self._say("only-true-values", f"the default of {name} must be false: whatever no rule allows is denied")
            return self._found
        if self._definition.is_function:
            self._say(
                "no-functions", f"{name} takes arguments and reads {self._row}; write a rule without arguments that names the fields itself"
            )
        elif self._definition.is_partial:
            self._say(
                "only-true-values", f"{name} is a set or an object made from {self._row}; write a rule that is true, and negate or name it"
            )
        elif value != _TRUE:
            self._say("only-true-values", f"{name} may only ever be made true; write what denies as a named rule and `not` it in {name}")
        if "else" in node:
            self._say("no-else", f"{name} has an else; write each case as a definition of {name} of its own")
        self._body(node.get("body") or [])
        return self._found

    def _say(self, code: str, message: str) -> None:
        self._found.append(Finding(code, message, self._definition.module.file, self._line))

    # ------------------------------------------------------------ bodies

    def _body(self, body: Sequence[Node]) -> None:
        scope = _Scope()
        for expression in body:
            self._bind(expression, scope)
        for expression in body:
            self._line = row_of(expression, self._line)
            if self._touches(expression, scope):
                self._expression(expression, scope)

    def _bind(self, expression: Node, scope: _Scope) -> None:
        terms = expression["terms"]
        if isinstance(terms, dict):
            for symbol in terms.get("symbols") or ():
                if symbol["type"] == "call":
                    *names, domain = symbol["value"][1:]
                    self._bind_element(names[-1], domain, scope)
        elif is_call(terms, "assign", "eq") and len(terms) == 3:
            for name, value in ((terms[1], terms[2]), (terms[2], terms[1])):
                parts = _input_parts(value)
                if parts and parts[-1]["type"] == "var":
                    self._bind_element(name, {"type": "ref", "value": value["value"][:-1]}, scope)
        for node in nodes(terms):
            parts = _input_parts(node) or []
            if parts and parts[0]["value"] != self._unknown:
                # `input.principal.teams[i]` iterates just as `some … in` does.
                scope.known |= {
                    str(part["value"]) for part in parts[1:] if part["type"] == "var" and not str(part["value"]).startswith("$")
                }

    def _bind_element(self, name: Node, domain: Node, scope: _Scope) -> None:
        variables = {str(node["value"]) for node in nodes(name) if node.get("type") == "var"}
        if self._field(domain) is not None:
            scope.elements |= variables
        elif _input_parts(domain) is not None:
            scope.known |= variables

    def _touches(self, tree: Any, scope: _Scope) -> bool:
        if _mentions(tree, self._unknown):
            return True
        if any(node.get("type") == "var" and node["value"] in scope.elements for node in nodes(tree)):
            return True
        return any(self._names_row_rule(node) for node in nodes(tree))

    def _names_row_rule(self, term: Node) -> bool:
        return any(path in self._touching for path in self._policies.resolve(term, self._definition))

    # ------------------------------------------------------------ expressions

    def _expression(self, expression: Node, scope: _Scope) -> None:
        terms = expression["terms"]
        if expression.get("with"):
            self._say("no-with", "`with` cannot be part of a filter; write a rule that reads the input as it is")
        if expression.get("negated"):
            self._negation(terms)
            return
        self._references(terms)
        self._comprehensions(terms, scope)
        if isinstance(terms, list):
            self._known_first(terms, scope)
            self._call(terms, scope)
            return
        match terms:
            case {"symbols": symbols}:
                self._iterations(symbols, scope)
            case {"domain": _}:
                self._say(
                    "every-over-row",
                    f"`every` over {self._row} is no filter; write a named rule for an element that must not be, and `not` it",
                )
            case {"type": "not", "body": [{"terms": inner}]}:
                self._negation(inner)
            case {"type": "not"}:
                self._negation([])
            case {"type": "and" | "or", "lhs": left, "rhs": right}:
                self._body(left)
                self._body(right)
            case {"type": "call", "value": call}:
                self._call(call, scope)
            case _:
                self._known_first([terms], scope)

    def _negation(self, terms: Any) -> None:
        rules = self._policies.resolve(terms, self._definition) if isinstance(terms, dict) else []
        plain = [path for path in rules if not any(rule.is_function or rule.is_partial for rule in self._policies.rules[path])]
        if not plain:
            message = f"a negated test of {self._row} is not exact where a field is missing; put the test into a named rule and write `not <rule>`"
            self._say("negate-named-rules", message)

    def _iterations(self, symbols: Sequence[Node], scope: _Scope) -> None:
        for symbol in symbols:
            if symbol["type"] != "call":
                continue
            if is_call(symbol["value"], "internal.member_3"):
                self._say(
                    "unbound-key", f"positions in a list of {self._row} are no part of a filter; write `some x in {self._row}.<list>`"
                )
            domain = symbol["value"][-1]
            if (name := self._field(domain)) is not None:
                self._require_type(name, "list", "iterate over a list field")
            self._nested([domain], scope)

    def _known_first(self, terms: Sequence[Node], scope: _Scope) -> None:
        named = {str(node["value"]) for term in terms for node in nodes(term) if node.get("type") == "var"} & scope.known
        if named and any(_mentions(term, self._unknown) for term in terms):
            name = min(named)
            message = (
                f"the filter grows with every value of {name} that the caller holds; write the row first: "
                f"`some x in {self._row}.<list>` and then `x in input.principal.<list>`, or `{self._row}.<field> in input.principal.<list>`"
            )
            self._say("row-first-membership", message)

    def _comprehensions(self, terms: Any, scope: _Scope) -> None:
        for node in nodes(terms):
            if node.get("type") in _COMPREHENSIONS and self._touches(node, scope):
                self._say(
                    "comprehension-over-row",
                    f"a comprehension over {self._row} is no filter; write `some x in {self._row}.<list>` and test x",
                )

    # ------------------------------------------------------------ calls

    def _call(self, terms: Sequence[Node], scope: _Scope) -> None:
        operator, arguments = operator_of(terms), terms[1:]
        if self._policies.resolve(terms[0], self._definition):
            self._say("no-functions", f"{operator} is given {self._row}; write a rule without arguments that names the fields itself")
            return
        self._nested(arguments, scope)
        if operator == "assign":
            self._assignment(arguments)
        elif operator in _COMPARISONS and len(arguments) == 2:
            self._comparison(operator, arguments)
        elif operator in _MEMBER:
            self._membership(arguments)
        elif operator in _TEXT:
            self._text(operator, arguments)
        elif operator != "print":
            self._say("computed-from-row", f"{operator} of {self._row} is no filter; stamp what it computes as a field, and compare that")

    def _nested(self, arguments: Sequence[Node], scope: _Scope) -> None:
        for argument in arguments:
            for node in nodes(argument):
                if node.get("type") != "call" or not self._touches(node, scope):
                    continue
                operator = operator_of(node["value"])
                if self._policies.resolve(node["value"][0], self._definition):
                    self._say(
                        "no-functions", f"{operator} is given {self._row}; write a rule without arguments that names the fields itself"
                    )
                else:
                    self._say(
                        "computed-from-row", f"{operator} of {self._row} is no filter; stamp what it computes as a field, and compare that"
                    )

    def _assignment(self, arguments: Sequence[Node]) -> None:
        target, value = arguments
        if target["type"] == "var" and self._field(value) is not None:
            self._alias(target, value)

    def _alias(self, target: Node, value: Node) -> None:
        message = f"{target['value']} stands for {self._text_of(value)}; write the field itself, so that what is asked of it can be seen"
        self._say("aliased-field", message)

    def _comparison(self, operator: str, arguments: Sequence[Node]) -> None:
        left, right = arguments
        fields = [self._field(left), self._field(right)]
        for term, other, name in ((left, right, fields[1]), (right, left, fields[0])):
            if name is None:
                continue
            if operator == "eq" and term["type"] == "var":
                self._alias(term, other)
            elif term["type"] == "null":
                self._say(
                    "null-test",
                    f"{name} is never null: every field is stamped; leave the test out, or compare with a value that is stamped",
                )
            elif (kind := self._type_of(term)) is not None:
                self._require_type(
                    name, kind, f"compare it with a value of its own type{', or ask `value in` it' if self._kind(name) == 'list' else ''}"
                )
            elif term["type"] in ("array", "set", "object"):
                self._say("computed-from-row", f"{name} compared with a whole {term['type']} is no filter; write `in` it instead")
        if None not in fields and fields[0] == fields[1]:
            self._say("self-comparison", f"{fields[0]} compared with itself says only that it is there, which it always is; leave it out")

    def _membership(self, arguments: Sequence[Node]) -> None:
        *names, domain = arguments
        listed = self._field(domain)
        if listed is not None and any(_mentions(name, self._unknown) for name in names):
            self._say("field-in-field", f"whether a field is in {listed} compares two fields of the row; compare each with a known value")
        elif listed is not None:
            self._require_type(listed, "list", "test membership in a list field")
        for name in names:
            field_name = self._field(name)
            if field_name is not None and listed is None and self._kind(field_name) == "list":
                message = (
                    f"{field_name} is a list, which is never in a set of names; write `some x in {self._row}.{field_name}`, then `x in …`"
                )
                self._say("type-mismatch", message)

    def _text(self, operator: str, arguments: Sequence[Node]) -> None:
        subject, known = arguments
        if self._field(subject) is None or _mentions(known, self._unknown):
            self._say("computed-from-row", f"{operator} must ask a field of {self._row} about a known text")
        elif (name := self._field(subject)) is not None:
            self._require_type(name, "string", f"ask {operator} of a text field")

    # ------------------------------------------------------------ references

    def _references(self, terms: Any) -> None:
        for node in nodes(terms):
            parts = _input_parts(node)
            if parts is not None and (not parts or parts[0]["value"] == self._unknown):
                self._reference(parts[1:], whole=not parts)
            elif parts and parts[0]["type"] != "string":
                self._say("unbound-key", "a computed key of input may be the row; write input.<name>")

    def _reference(self, steps: Sequence[Node], *, whole: bool) -> None:
        if not steps:
            name = "input" if whole else self._row
            self._say("whole-row", f"{name} as a whole is no filter; name the fields: {self._row}.<field>")
            return
        first, *rest = steps
        if first["type"] == "number":
            self._say("indexed-reference", f"{self._row} has named fields and no positions; write {self._row}.<field>")
        elif first["type"] != "string":
            self._say("unbound-key", f"a key of {self._row} that is computed or unbound may be any field; write {self._row}.<field>")
        elif self._schema is not None and first["value"] not in self._schema.fields:
            declared = ", ".join(self._schema.fields)
            message = f"{self._row}.{first['value']} is not declared in schemas/{self._schema.kind}.json, so nothing stamps it; there is: {declared}"
            self._say("undeclared-key", message)
        elif rest:
            self._element(str(first["value"]), rest)

    def _element(self, name: str, steps: Sequence[Node]) -> None:
        step = steps[0]
        if len(steps) > 1 or step["type"] == "string":
            self._say(
                "undeclared-key", f"fields are flat, so nothing is below {self._row}.{name}; stamp what you need as a field of its own"
            )
        elif step["type"] != "var":
            self._say("indexed-reference", f"positions in {self._row}.{name} are no part of a filter; write `x in {self._row}.{name}`")

    def _field(self, term: Node) -> str | None:
        """Return the field of the row that the term is; None for anything else, elements of a field included."""
        match _input_parts(term):
            case [{"type": "string", "value": self._unknown}, {"type": "string", "value": str(name)}]:
                return name
            case _:
                return None

    def _text_of(self, term: Node) -> str:
        return f"{self._row}.{self._field(term)}"

    # ------------------------------------------------------------ types

    def _kind(self, name: str) -> FieldType | None:
        spec = self._schema.fields.get(name) if self._schema is not None else None
        return None if spec is None else spec.type

    def _type_of(self, term: Node) -> FieldType | None:
        parts = _input_parts(term)
        if parts is not None and all(part["type"] == "string" for part in parts):
            own = [str(part["value"]) for part in parts]
            return self._kind(own[1]) if own[:1] == [self._unknown] and len(own) == 2 else _KNOWN.get(tuple(own))
        return _LITERALS.get(term["type"])

    def _require_type(self, name: str, kind: FieldType, advice: str) -> None:
        declared = self._kind(name)
        if declared is not None and declared != kind:
            message = f"{name} is a {declared}, so this never holds, or always, by Rego's order of types; {advice}"
            self._say("type-mismatch", message)


def _bare(term: Node) -> Node:
    return {key: value for key, value in term.items() if key != "location"}
