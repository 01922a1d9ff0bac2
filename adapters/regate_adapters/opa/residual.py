"""The translator: a residual of partial evaluation as an expression of the filter algebra, exactly, or a
refusal that says why.

Total or reject: each shape below is one whose meaning in full evaluation is known; everything else is
refused, so nothing is ever widened. `ast.py` reads what is translated here,
`regate_orchestrator.filters.evaluate` says what the result means, and a differential test with OPA as the
oracle holds the two together. Not how a store renders the expression.

Classic Rego evaluates references before it negates, partial evaluation folds them back, and the residual no
longer tells `not input.chunk.x == 1` (true without the field) from `x := input.chunk.x; not x == 1`
(undefined without it). So with a row schema a direct negation is refused on a field that may be missing; the
negation of a named rule is exact always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, assert_never

from regate_adapters.opa.ast import (
    Bare,
    Body,
    Call,
    Collection,
    Junction,
    Known,
    Negation,
    Opaque,
    Ref,
    Residual,
    Rule,
    RulePath,
    Statement,
    Step,
    Term,
    Unknown,
    Variable,
    named,
)
from regate_adapters.opa.operators import COMPARISONS, MIRRORED, TEXT
from regate_adapters.opa.substitution import binding, occurrences, repeats_variable, substitute
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.evaluate import compares
from regate_orchestrator.filters.expression import (
    ALWAYS,
    NEVER,
    Compare,
    CompareFields,
    Constant,
    Defined,
    Expression,
    Field,
    In,
    NonEmpty,
    Operator,
    Overlaps,
    Scalar,
    Text,
    TextOperator,
    Truthy,
    all_of,
    any_of,
    negate,
    size,
)
from regate_orchestrator.filters.schema import RowSchema

_LARGEST: Final = 100_000


class NotUnderstood(FilterNotExpressible):
    """The residual has no exact form in the filter algebra. `within` is the rule at fault as far as
    the residual still names it.
    """

    def __init__(
        self, rule: str, reason: str, *, within: str | None = None, place: str | None = None
    ) -> None:
        named = within if within and within != rule else rule
        super().__init__(f"{rule}: {named}{f' ({place})' if place else ''}: {reason}")
        self.rule = rule
        self.reason = reason
        self.within = named
        self.place = place


def translate(residual: Residual, *, rule: str, unknown: str, schema: RowSchema | None) -> Expression:
    """Return for which rows the residual of `data.<rule> == true` holds, `input.<unknown>` being the row.

    Raises `NotUnderstood` for whatever has no exact form, and for fields that the schema does not declare.
    Without a schema every field is taken as declared and required.
    """
    translator = _Translator(residual, rule=rule, unknown=unknown, schema=schema)
    try:
        expression = any_of(translator.body(query) for query in residual.queries)
    except RecursionError as error:
        raise translator.refusal("nested too deeply") from error
    if size(expression) > _LARGEST:
        raise translator.refusal(f"the filter has more than {_LARGEST} parts")
    return expression


class _Translator:
    def __init__(self, residual: Residual, *, rule: str, unknown: str, schema: RowSchema | None) -> None:
        self._rules = residual.rules
        self._rule = rule
        self._unknown = unknown
        self._schema = schema
        self._done: dict[RulePath, Expression] = {}
        self._within: list[RulePath] = []
        self._complemented = False

    def refusal(self, reason: str) -> NotUnderstood:
        within = ".".join(("data", *self._within[-1][2:])) if self._within else None
        return NotUnderstood("data." + self._rule.replace("/", "."), reason, within=within)

    # ------------------------------------------------------------ bodies

    def body(self, body: Body) -> Expression:
        if any(statement.modified for statement in body):
            raise self.refusal("`with`")
        statements, conditions = self._without_bindings(body)
        self._require_separate(statements)
        return all_of([*(self._statement(statement) for statement in statements), *conditions])

    def _without_bindings(self, body: Body) -> tuple[Body, list[Expression]]:
        """Return the body with local variables replaced by what they are bound to, and what the
        bindings require by themselves.
        """
        conditions: list[Expression] = []
        while True:
            for position, statement in enumerate(body):
                bound = binding(statement)
                rest = body[:position] + body[position + 1 :]
                if bound is None or not occurrences(rest)[bound[0]]:
                    continue
                name, value = bound
                if isinstance(value, Ref):
                    if value.steps and isinstance(value.steps[-1], Variable):
                        self._require_plain_uses(rest, name)
                    else:
                        conditions.append(Defined(self._field(value)))
                body = tuple(substitute(other, name, value) for other in rest)
                break
            else:
                return body, conditions

    def _require_plain_uses(self, statements: Body, name: str) -> None:
        # An element may move into one positive test only: "some element is not …" is no complement of "some
        # element is …".
        for statement in statements:
            if occurrences(statement)[name] and (statement.negated or not isinstance(statement.form, Call)):
                raise self.refusal("a test of list elements under negation")

    def _require_separate(self, statements: Body) -> None:
        named = [occurrences(statement) for statement in statements]
        uses = Counter(name for names in named for name in names)
        for statement, names in zip(statements, named, strict=True):
            if repeats_variable(statement) or any(uses[name] > 1 for name in names):
                raise self.refusal("a variable shared between expressions")

    # ------------------------------------------------------------ statements

    def _statement(self, statement: Statement) -> Expression:
        if statement.negated and occurrences(statement):
            raise self.refusal("a test of list elements under negation")
        form = statement.form
        match form:
            case Call(operator):
                if not statement.negated:
                    return self._call(form)
                if operator == "eq":
                    with self._complement():
                        return negate(self._call(form))
                return self._negated_call(form)
            case Bare(term):
                if not statement.negated:
                    return self._truth(term)
                with self._complement():
                    return negate(self._truth(term))
            case _ if statement.negated:
                raise self.refusal("`not` before this form")
            case Negation(body):
                with self._complement():
                    return negate(self.body(body))
            case Junction(conjunctive, left, right):
                join = all_of if conjunctive else any_of
                return join([self.body(left), self.body(right)])
            case Unknown(kind):
                raise self.refusal(f"`{kind}` over unknown values")
            case _:
                assert_never(form)

    def _negated_call(self, call: Call) -> Expression:
        """Return the classic `not` of a builtin other than equality, whose references must all be
        defined for it to hold.
        """
        conditions = [
            Defined(self._field(argument))
            for argument in call.arguments
            if isinstance(argument, Ref) and argument.root == "input"
        ]
        return all_of([negate(self._call(call)), *conditions])

    def _truth(self, term: Term) -> Expression:
        match term:
            case Ref("data"):
                return self._support(term)
            case Ref():
                return Truthy(self._field(term))
            case Known(value):
                return Constant(value is not False)
            case Collection() | Variable() | Opaque():
                raise self.refusal(f"{named(term)} as a condition")
            case _:
                assert_never(term)

    # ------------------------------------------------------------ builtins

    def _call(self, call: Call) -> Expression:
        if len(call.arguments) != 2:
            raise self.refusal(f"builtin {call.operator} with {len(call.arguments)} arguments")
        left, right = call.arguments
        if call.operator in COMPARISONS:
            return self._comparison(COMPARISONS[call.operator], left, right)
        if call.operator == "internal.member_2":
            return self._membership(left, right)
        if call.operator in TEXT:
            return self._text(TEXT[call.operator], left, right)
        raise self.refusal(f"builtin {call.operator}")

    def _comparison(self, operator: Operator, left: Term, right: Term) -> Expression:
        match left, right:
            case Known(one), Known(other):
                return Constant(compares(operator, one, other))
            case (Variable(), Known()) | (Known(), Variable()) if operator == "eq":
                return ALWAYS
            case (Variable(), Ref() as ref) | (Ref() as ref, Variable()) if operator == "eq":
                field, element = self._place(ref)
                return NonEmpty(field) if element else Defined(field)
            case (Ref("data") as ref, Known(value)) | (Known(value), Ref("data") as ref):
                if operator != "eq" or value is not True:
                    raise self.refusal(f"{ref} compared with anything but `== true`")
                return self._support(ref)
            case Ref(), Ref():
                return CompareFields(operator, self._field(left), self._field(right))
            case Ref(), Known(value):
                return self._compare(operator, left, value)
            case Known(value), Ref():
                return self._compare(MIRRORED[operator], right, value)
            case _:
                stranger = left if not isinstance(left, Ref | Known) else right
                raise self.refusal(f"comparison with {named(stranger)}")

    def _compare(self, operator: Operator, ref: Ref, value: Scalar) -> Expression:
        field, element = self._place(ref)
        if not element:
            return Compare(operator, field, value)
        if operator != "eq":
            raise self.refusal(f"list elements compared by {operator}")
        return Overlaps(field, (value,))

    def _membership(self, needle: Term, haystack: Term) -> Expression:
        match needle, haystack:
            case Known(value), Collection(_, elements):
                return Constant(any(compares("eq", value, element) for element in self._scalars(elements)))
            case Ref(), Collection(_, elements):
                values = self._scalars(elements)
                field, element = self._place(needle)
                if not values:
                    return NEVER
                return Overlaps(field, values) if element else In(field, values)
            case ((Ref() | Known()), Known()):
                return NEVER  # a scalar has no members
            case Known(value), Ref():
                field, element = self._place(haystack)
                if element:
                    raise self.refusal("membership in a list of lists")
                return Overlaps(field, (value,))
            case Ref(), Ref():
                raise self.refusal("a field in a field")
            case _:
                stranger = needle if not isinstance(needle, Ref | Known) else haystack
                raise self.refusal(f"membership with {named(stranger)}")

    def _text(self, operator: TextOperator, subject: Term, known: Term) -> Expression:
        if not isinstance(subject, Ref) or not isinstance(known, Known):
            raise self.refusal(f"{operator} of anything but a field and a known text")
        field, element = self._place(subject)
        if element:
            raise self.refusal(f"{operator} of list elements")
        return Text(operator, field, known.value) if isinstance(known.value, str) else NEVER

    def _scalars(self, elements: tuple[Term, ...]) -> tuple[Scalar, ...]:
        values: list[Scalar] = []
        for element in elements:
            if not isinstance(element, Known):
                raise self.refusal(f"{named(element)} inside a collection")
            values.append(element.value)
        return tuple(values)

    # ------------------------------------------------------------ references

    def _field(self, ref: Ref) -> Field:
        field, element = self._place(ref)
        if element:
            raise self.refusal("a list element where a field is needed")
        return field

    def _place(self, ref: Ref) -> tuple[Field, bool]:
        """Return the field below the row that the reference names, and whether it goes on to the
        field's elements.
        """
        if ref.root != "input" or ref.steps[:1] != (self._unknown,):
            raise self.refusal(f"{ref} is no part of input.{self._unknown}")
        steps = ref.steps[1:]
        element = bool(steps) and isinstance(steps[-1], Variable)
        field = self._names(steps[:-1] if element else steps)
        if not field:
            raise self.refusal(f"input.{self._unknown} as a whole")
        self._require_declared(field)
        return field, element

    def _names(self, steps: tuple[Step, ...]) -> Field:
        names: list[str] = []
        for step in steps:
            if isinstance(step, Variable):
                raise self.refusal("a variable inside a reference")
            if isinstance(step, Opaque):
                raise self.refusal("an indexed reference")
            names.append(step)
        return tuple(names)

    def _require_declared(self, field: Field) -> None:
        if self._schema is None:
            return
        spec = self._schema.fields.get(field[0])
        if spec is None or len(field) > 1:
            raise self.refusal(
                f"field {'.'.join(field)} is not declared in the schema of {self._schema.kind}"
            )
        if self._complemented and not spec.required:
            raise self.refusal(
                f"a direct negation on {field[0]}, which may be missing; negate a named rule instead"
            )

    # ------------------------------------------------------------ support rules

    def _support(self, ref: Ref) -> Expression:
        path = ("data", *(step for step in ref.steps if isinstance(step, str)))
        rules = self._rules.get(path)
        if rules is None or len(path) != 1 + len(ref.steps):
            raise self.refusal(f"{ref} is not a rule that partial evaluation resolved")
        if path in self._within:
            raise self.refusal(f"{ref} is recursive")
        # OPA makes rules of its own for the bodies of `not`; they belong to the expression around them.
        own_scope = not path[-1].startswith("__not")
        if own_scope and path in self._done:
            return self._done[path]
        outer = self._complemented
        self._complemented = outer and not own_scope
        self._within.append(path)
        expression = self._rule_of(rules)
        self._within.pop()
        self._complemented = outer
        if own_scope:
            self._done[path] = expression
        return expression

    def _rule_of(self, rules: tuple[Rule, ...]) -> Expression:
        """Return when the rule is true. Rules that may be true and false at once are refused: full
        evaluation has a conflict there.
        """
        if not all(rule.plain for rule in rules):
            raise self.refusal("a function, a partial rule, or a rule with `else`")
        values = [rule.value for rule in rules]
        if not all(isinstance(value, Known) and isinstance(value.value, bool) for value in values):
            raise self.refusal("a rule whose value is not true or false")
        default = any(rule.default and rule.value == Known(True) for rule in rules)
        bodies = [rule for rule in rules if not rule.default]
        if any(rule.value == Known(default) for rule in bodies) and (
            default or not all(rule.value == Known(True) for rule in bodies)
        ):
            raise self.refusal("a rule that may be both true and false")
        if default:
            return negate(any_of(self.body(rule.body) for rule in bodies))
        return any_of(self.body(rule.body) for rule in bodies if rule.value == Known(True))

    @contextmanager
    def _complement(self) -> Iterator[None]:
        outer, self._complemented = self._complemented, True
        try:
            yield
        finally:
            self._complemented = outer
