package regate.chunk

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: Why not
# description: |
#   For the audit record and for operators, never for the caller: reasons tell of a chunk's existence. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: chunk_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "other_tenant" if not _same_tenant

deny_reasons contains "level_above_clearance" if {
	not granted
	not _cleared
}

deny_reasons contains "not_shared_with_principal" if {
	not granted
	not shared
}

deny_reasons contains sprintf("label_restricted: %s", [label]) if {
	some label in input.chunk.labels
	label in labels.restricted
}

deny_reasons contains "tenant_suspended" if caller.suspended

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.chunk.deny

deny_reasons contains "embargo" if not _released

deny_reasons contains "legal_hold" if not unheld

_action_known if input.action == "chunk.read"

_same_tenant if input.chunk.tenant == input.principal.tenant

_cleared if input.chunk.level <= input.principal.clearance

_released if input.chunk.embargo_until <= input.now
