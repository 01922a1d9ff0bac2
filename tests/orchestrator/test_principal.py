"""The caller's token goes with the context, and shows itself nowhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.orchestrator.scripted import CONTEXT, NOW, Policy, Records

from regate_orchestrator.authz.decisions import Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.principal import Credential, read_credential

TOKEN = "eyJ0.secret.token"
CREDENTIAL = Credential(TOKEN, frozenset({"regate"}), NOW + 60)


@pytest.mark.parametrize(
    ("claims", "audiences"),
    [
        ({"aud": "regate", "exp": 7}, {"regate"}),
        ({"aud": ["regate", "crm", 5], "exp": 7.5}, {"regate", "crm"}),
    ],
)
def test_a_token_is_read_with_whom_it_is_for(claims: Any, audiences: set[str]) -> None:
    assert read_credential(TOKEN, claims) == Credential(TOKEN, frozenset(audiences), float(claims["exp"]))


@pytest.mark.parametrize(
    "claims", [{}, {"aud": "regate"}, {"exp": 7}, {"aud": {}, "exp": 7}, {"aud": "a", "exp": "7"}]
)
def test_a_token_that_says_not_for_whom_or_how_long_is_no_credential(claims: Any) -> None:
    assert read_credential(TOKEN, claims) is None


async def test_no_token_is_shown_recorded_or_asked_about() -> None:
    policy, audit = Policy(answers={"regate/route/allow": True}), Records()
    context = replace(CONTEXT, credential=CREDENTIAL)

    await Enforcer(policy, audit, {}, lambda: NOW).decide(context, Question(Point.ROUTE, "route.call", {}))

    assert TOKEN not in repr((context, CREDENTIAL, audit.written, policy))
    assert replace(context, credential=None) == context
