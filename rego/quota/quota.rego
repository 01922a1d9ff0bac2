# METADATA
# title: Quotas
# description: What the caller may spend. The policy gives numbers only; counting is the gateway's.
# scope: package
# schemas:
#   - input: schema.input.quota
#   - input.principal: schema.input.principal
#   - data.regate.quotas: schema.operators.quotas
#   - data.regate.scoped_quotas: schema.operators.scoped_quotas
#   - data.regate.model_prices: schema.operators.model_prices
#   - data.regate.storage_limits: schema.operators.storage_limits
package regate.quota

import data.regate.lib.caller
import data.regate.lib.limits as limit_numbers

_names := {"rpm", "tpm", "max_turns", "max_tool_calls", "max_chunks", "max_output_tokens"}

# METADATA
# title: The limits
# description: |
#   All six, whole numbers; 0 is nothing at all. Undefined, and so a refusal, when one of them is not said. What is said for a role of the
#   caller comes before what is said for the tenant, and that before the default; of several roles the most counts.
#   Besides them `scopes`, where any has limits: what is spent by the caller alone (`person`), by all of the tenant that hold a role of the
#   caller's, by the tenant, or by all who use the model; and `price`, where the model has one.
# entrypoint: true
# custom:
#   code: quota_limits
limits := object.union(_said, _beside) if {
	count(deny_reasons) == 0
}

# METADATA
# title: Why there are none
# description: For the audit record. Empty exactly when there are limits.
# entrypoint: true
# custom:
#   code: quota_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "caller_not_identified" if not caller.identified

deny_reasons contains sprintf("no_limit: %s", [name]) if {
	some name in (_names - object.keys(_said))
}

deny_reasons contains "no_scoped_quotas" if not data.regate.scoped_quotas

deny_reasons contains "no_model_prices" if not data.regate.model_prices

_action_known if input.action == "quota.limits"

_said := limit_numbers.said(data.regate.quotas, _names, input.principal)

_beside := {name: said |
	some name, said in {"scopes": [scope | some scope in _scopes], "price": _price}
	count(said) > 0
}

_scopes contains {"scope": "person", "limits": said} if {
	said := limit_numbers.given(data.regate.scoped_quotas.persons, input.principal)
	count(said) > 0
}

_scopes contains {"scope": "role", "name": role, "limits": said} if {
	some role in input.principal.roles
	said := data.regate.scoped_quotas.roles[role]
}

_scopes contains {"scope": "tenant", "limits": said} if {
	said := data.regate.scoped_quotas.tenants[input.principal.tenant]
}

_scopes contains {"scope": "model", "limits": said} if {
	said := data.regate.scoped_quotas.models[input.request.model]
}

_price := object.get(data.regate.model_prices, [input.request.model], {})

# METADATA
# title: The limits of what is stored
# description: |
#   How many bytes of responses, conversations and prompts the caller may have stored in all; 0 is nothing at all. Undefined, and so a refusal,
#   when it is not said. Whose limit counts is as with the others.
# entrypoint: true
# custom:
#   code: quota_storage
storage := _storage if {
	input.action == "quota.storage"
	caller.identified
	object.keys(_storage) == _storage_names
}

_storage_names := {"max_bytes"}

_storage := limit_numbers.said(data.regate.storage_limits, _storage_names, input.principal)
