"""What a filterable rule may ask of one field of the row: references, comparisons, membership and texts, by
the types that the schema declares. The rules around them are the business of `rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from regate_adapters.opa.acceptance.forms import Forms
from regate_adapters.opa.acceptance.nodes import Node, Path, nodes, steps_below
from regate_adapters.opa.acceptance.reach import Filter, mentions
from regate_orchestrator.filters.schema import FieldType, RowSchema

_LITERALS: Final[Mapping[str, FieldType]] = {"string": "string", "number": "number", "boolean": "boolean"}
_KNOWN: Final[Mapping[Path, FieldType]] = {
    ("now",): "number",
    ("principal", "id"): "string",
    ("principal", "tenant"): "string",
    ("principal", "clearance"): "number",
    **{("principal", name): "list" for name in ("teams", "roles", "projects", "namespaces", "scopes")},
}


class FieldTests:
    """Reads the tests of fields in one rule; what is wrong is said with its code and a message."""

    def __init__(
        self,
        forms: Forms,
        schema: RowSchema | None,
        filtered: Filter,
        say: Callable[[str, str], None],
    ) -> None:
        self._forms = forms
        self._schema = schema
        self._row = filtered.row
        self._unknown = filtered.unknown
        self._say = say

    def alias(self, target: Node, value: Node) -> None:
        """Find that a variable stands for a field."""
        message = (
            f"{target['value']} stands for {self._row}.{self._forms.field(value)}; write the field "
            "itself, so that what is asked of it "
            "can be seen"
        )
        self._say("aliased-field", message)

    def comparison(self, operator: str, arguments: Sequence[Node]) -> None:
        """Find what is wrong with a comparison of fields or with a field."""
        left, right = arguments
        fields = [self._forms.field(left), self._forms.field(right)]
        for term, other, name in ((left, right, fields[1]), (right, left, fields[0])):
            if name is None:
                continue
            if operator == "eq" and term["type"] == "var":
                self.alias(term, other)
            elif term["type"] == "null":
                self._say(
                    "null-test",
                    (
                        f"{name} is never null: every field is stamped; leave the test out, or compare "
                        "with a value that is stamped"
                    ),
                )
            elif (kind := self._type_of(term)) is not None:
                self.require_type(
                    name,
                    kind,
                    (
                        "compare it with a value of its own "
                        f"type{', or ask `value in` it' if self._kind(name) == 'list' else ''}"
                    ),
                )
            elif term["type"] in ("array", "set", "object"):
                self._say(
                    "computed-from-row",
                    f"{name} compared with a whole {term['type']} is no filter; write `in` it instead",
                )
        if None not in fields and fields[0] == fields[1]:
            self._say(
                "self-comparison",
                (
                    f"{fields[0]} compared with itself says only that it is there, which it always is; "
                    "leave it out"
                ),
            )

    def membership(self, arguments: Sequence[Node]) -> None:
        """Find what is wrong with a test of what is in what."""
        *names, domain = arguments
        listed = self._forms.field(domain)
        if listed is not None and any(mentions(name, self._unknown) for name in names):
            self._say(
                "field-in-field",
                (
                    f"whether a field is in {listed} compares two fields of the row; compare each with a "
                    "known value"
                ),
            )
        elif listed is not None:
            self.require_type(listed, "list", "test membership in a list field")
        for name in names:
            field_name = self._forms.field(name)
            if field_name is not None and listed is None and self._kind(field_name) == "list":
                message = (
                    f"{field_name} is a list, which is never in a set of names; write `some x in "
                    f"{self._row}.{field_name}`, then `x in …`"
                )
                self._say("type-mismatch", message)

    def text(self, operator: str, arguments: Sequence[Node]) -> None:
        """Find what is wrong with a test of the text of a field."""
        subject, known = arguments
        if (name := self._forms.field(subject)) is None or mentions(known, self._unknown):
            self._say("computed-from-row", f"{operator} must ask a field of {self._row} about a known text")
        else:
            self.require_type(name, "string", f"ask {operator} of a text field")

    def references(self, terms: Any) -> None:
        """Find what is wrong with how the row is referred to."""
        for node in nodes(terms):
            steps = steps_below(node, "input")
            if steps is not None and (not steps or steps[0]["value"] == self._unknown):
                self._reference(steps[1:], whole=not steps)
            elif steps and steps[0]["type"] != "string":
                self._say("unbound-key", "a computed key of input may be the row; write input.<name>")

    def _reference(self, steps: Sequence[Node], *, whole: bool) -> None:
        if not steps:
            name = "input" if whole else self._row
            self._say("whole-row", f"{name} as a whole is no filter; name the fields: {self._row}.<field>")
            return
        first, *rest = steps
        if first["type"] == "number":
            self._say(
                "indexed-reference",
                f"{self._row} has named fields and no positions; write {self._row}.<field>",
            )
        elif first["type"] != "string":
            self._say(
                "unbound-key",
                (
                    f"a key of {self._row} that is computed or unbound may be any field; write "
                    f"{self._row}.<field>"
                ),
            )
        elif self._schema is not None and first["value"] not in self._schema.fields:
            declared = ", ".join(self._schema.fields)
            message = (
                f"{self._row}.{first['value']} is not declared in schemas/{self._schema.kind}.json, so "
                f"nothing stamps it; there is: {declared}"
            )
            self._say("undeclared-key", message)
        elif rest:
            self._element(str(first["value"]), rest)

    def _element(self, name: str, steps: Sequence[Node]) -> None:
        step = steps[0]
        if len(steps) > 1 or step["type"] == "string":
            self._say(
                "undeclared-key",
                (
                    f"fields are flat, so nothing is below {self._row}.{name}; stamp what you need as a "
                    "field of its own"
                ),
            )
        elif step["type"] != "var":
            self._say(
                "indexed-reference",
                f"positions in {self._row}.{name} are no part of a filter; write `x in {self._row}.{name}`",
            )

    def _kind(self, name: str) -> FieldType | None:
        spec = self._schema.fields.get(name) if self._schema is not None else None
        return None if spec is None else spec.type

    def _type_of(self, term: Node) -> FieldType | None:
        steps = steps_below(term, "input")
        if steps is not None and all(step["type"] == "string" for step in steps):
            own = [str(step["value"]) for step in steps]
            return (
                self._kind(own[1]) if own[:1] == [self._unknown] and len(own) == 2 else _KNOWN.get(tuple(own))
            )
        return _LITERALS.get(term["type"])

    def require_type(self, name: str, kind: FieldType, advice: str) -> None:
        """Find that a field is declared as another type, with what to write instead."""
        declared = self._kind(name)
        if declared is not None and declared != kind:
            message = (
                f"{name} is a {declared}, so this never holds, or always, by Rego's order of types; {advice}"
            )
            self._say("type-mismatch", message)
