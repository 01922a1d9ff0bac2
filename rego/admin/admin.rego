# METADATA
# title: Administration
# description: Whether the caller may look behind the decisions, read the record, or manage what belongs to others of the tenant.
# scope: package
# schemas:
#   - input: schema.input.admin
#   - input.principal: schema.input.principal
package regate.admin

import data.regate.lib.caller

# METADATA
# title: May the operation be done?
# description: Administrators may, within their own tenant. No role reaches further, since explanations and records tell of what exists.
# entrypoint: true
# custom:
#   code: admin_allow
default allow := false

allow if {
	_action_known
	caller.identified
	caller.administers
	_own_tenant
	not data.regate.custom.admin.deny
}

# METADATA
# title: Why not
# description: For the audit record. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: admin_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "caller_not_identified" if not caller.identified

deny_reasons contains "not_an_administrator" if not caller.administers

deny_reasons contains "other_tenant" if not _own_tenant

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.admin.deny

_action_known if input.action in {"policy.explain", "audit.read", "prompt.manage"}

_own_tenant if input.operation.tenant == input.principal.tenant
