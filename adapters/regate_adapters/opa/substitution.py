"""Local variables in what OPA leaves: what binds them, how often they occur, and what takes their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from regate_adapters.opa.ast import (
    DOCUMENTS,
    Bare,
    Body,
    Call,
    Collection,
    Form,
    Junction,
    Known,
    Negation,
    Opaque,
    Ref,
    Statement,
    Step,
    Term,
    Unknown,
    Variable,
)


def occurrences(subject: Body | Statement | Term) -> Counter[str]:
    """Return how often each local variable occurs."""
    return Counter(_variables(subject))


def binding(statement: Statement) -> tuple[str, Ref | Known] | None:
    """Return the variable that the statement binds, and to what; None when it is no binding."""
    if (
        statement.negated
        or statement.modified
        or not isinstance(statement.form, Call)
        or statement.form.operator != "eq"
    ):
        return None
    match statement.form.arguments:
        case (Variable(name), (Ref() | Known()) as value) | ((Ref() | Known()) as value, Variable(name)):
            return None if occurrences(value)[name] else (name, value)
        case _:
            return None


def repeats_variable(statement: Statement) -> bool:
    """Return whether a variable stands twice in one test, where an existential reading of each place
    would lose that they are one.
    """
    match statement.form:
        case Call() | Bare():
            return any(count > 1 for count in occurrences(statement).values())
        case Junction(_, left, right):
            return bool(occurrences(left).keys() & occurrences(right).keys())
        case Negation() | Unknown():
            return False  # a negation's body is held to the same rule when it is translated
        case _:
            assert_never(statement.form)


def substitute(statement: Statement, name: str, value: Ref | Known) -> Statement:
    """Return the statement with the variable replaced by what it is bound to."""
    return replace(statement, form=_form_with(statement.form, name, value))


def _variables(subject: Body | Statement | Form | Term) -> Iterator[str]:
    """Yield the name of each local variable, as often as it occurs. Lists of known values can be very
    long, so these are passed over.
    """
    match subject:
        case Statement(form):
            yield from _variables(form)
        case Call(_, parts) | Collection(_, parts) | tuple(parts):
            for part in parts:
                if not isinstance(part, Known):
                    yield from _variables(part)
        case Ref(root, steps):
            if root not in DOCUMENTS:
                yield root
            for step in steps:
                if isinstance(step, Variable):
                    yield step.name
        case Variable(name):
            yield name
        case Bare(term):
            yield from _variables(term)
        case Negation(body):
            yield from _variables(body)
        case Junction(_, left, right):
            yield from _variables(left)
            yield from _variables(right)
        case Known() | Opaque() | Unknown():
            return
        case _:
            assert_never(subject)


def _form_with(form: Form, name: str, value: Ref | Known) -> Form:
    match form:
        case Call(operator, arguments):
            return Call(operator, tuple(_term_with(argument, name, value) for argument in arguments))
        case Bare(term):
            return Bare(_term_with(term, name, value))
        case Negation(body):
            return Negation(tuple(substitute(statement, name, value) for statement in body))
        case Junction(conjunctive, left, right):
            bodies = (
                tuple(substitute(statement, name, value) for statement in body) for body in (left, right)
            )
            return Junction(conjunctive, *bodies)
        case Unknown():
            return form
        case _:
            assert_never(form)


def _term_with(term: Term, name: str, value: Ref | Known) -> Term:
    match term:
        case Variable(other):
            return value if other == name else term
        case Collection(kind, elements):
            return Collection(kind, tuple(_term_with(element, name, value) for element in elements))
        case Ref(root, steps):
            steps = tuple(_step_with(step, name, value) for step in steps)
            if root != name:
                return Ref(root, steps)
            return (
                Ref(value.root, (*value.steps, *steps))
                if isinstance(value, Ref)
                else Opaque("reference into a scalar")
            )
        case Known() | Opaque():
            return term
        case _:
            assert_never(term)


def _step_with(step: Step, name: str, value: Ref | Known) -> Step:
    if not isinstance(step, Variable) or step.name != name:
        return step
    return (
        value.value if isinstance(value, Known) and isinstance(value.value, str) else Opaque("computed index")
    )
