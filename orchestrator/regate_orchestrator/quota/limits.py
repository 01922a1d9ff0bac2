"""What a caller may spend, as the policy says it in `regate.quota.limits`: numbers, and nothing but numbers.

Counting is a `ports.QuotaCounter`'s; what one request spends is in `metering.py`.
"""

from __future__ import annotations

from regate_orchestrator.authz.decisions import Decision, Deny, Point, Question
from regate_orchestrator.authz.limits import LIMITS, QuotaLimits, read_limits
from regate_orchestrator.errors import NotPermitted, PolicyUnavailable
from regate_orchestrator.values import JsonObject


def quota_question(request: JsonObject) -> Question:
    """Return the question what the caller may spend on a request. `request` is the input's key of
    that name.
    """
    return Question(Point.QUOTA, "quota.limits", {"request": request}, about=str(request.get("model", "")))


def granted(decision: Decision) -> QuotaLimits:
    """Return the limits that the decision on `quota_question` grants. Raises `NotPermitted` where the
    policy says nothing of them.
    """
    if isinstance(decision, Deny):
        raise NotPermitted("The policy grants you no quota for this request.")
    limits = read_limits(decision.decision_attributes.get(LIMITS))
    if limits is None:
        raise PolicyUnavailable(f"{Point.QUOTA.value} was not asked")
    return limits
