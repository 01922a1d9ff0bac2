"""In which accounts a request is counted: the person's own, and those of the scopes that the policy says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from regate_orchestrator.authz.limits import QuotaLimits, ScopeLimits
from regate_orchestrator.ports import Account, Meter
from regate_orchestrator.principal import Principal


def accounts_of(principal: Principal, limits: QuotaLimits, model: str) -> tuple[Account, ...]:
    """Return the accounts, the person's first, none twice. Of two limits of one account the lower counts."""
    own = Account("person", principal.tenant, principal.id, "", {"rpm": limits.rpm, "tpm": limits.tpm})
    found = {own.key: own}
    for scope in limits.scopes:
        account = _account(principal, scope, model)
        known = found.get(account.key)
        lower = account.limits if known is None else _lower(known.limits, account.limits)
        found[account.key] = replace(account, limits=lower)
    return tuple(found.values())


def _account(principal: Principal, scope: ScopeLimits, model: str) -> Account:
    alone = model if scope.per_model else ""
    match scope.scope:
        case "person":
            return Account("person", principal.tenant, principal.id, alone, scope.limits)
        case "role":
            return Account("role", principal.tenant, scope.name, alone, scope.limits)
        case "tenant":
            return Account("tenant", principal.tenant, "", alone, scope.limits)
        case "model":
            return Account("model", "", "", model, scope.limits)


def _lower(one: Mapping[Meter, int], other: Mapping[Meter, int]) -> Mapping[Meter, int]:
    return {**one, **{meter: min(most, one.get(meter, most)) for meter, most in other.items()}}
