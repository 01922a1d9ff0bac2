package regate.store

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: Why not
# description: For the audit record, and for callers who may know of the store. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: store_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "tenant_suspended" if caller.suspended

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.store.deny

deny_reasons contains "not_shared_with_principal" if {
	input.action in {"store.list", "store.read", "store.search"}
	not readable
}

deny_reasons contains "not_shared_for_adding" if {
	input.action == "store.add"
	not addable
}

deny_reasons contains sprintf("label_restricted: %s", [label]) if {
	input.action in {"store.list", "store.read", "store.search", "store.add"}
	some label in input.store.labels
	label in labels.restricted
}

deny_reasons contains "neither_owner_nor_store_admin" if {
	input.action in {"store.update", "store.delete"}
	not changeable
}

deny_reasons contains "level_above_clearance" if {
	input.action == "store.update"
	not sharable
}

deny_reasons contains "neither_owner_nor_store_admin" if {
	input.action == "store.detach"
	not detachable
}

deny_reasons contains "caller_not_identified" if {
	input.action == "store.create"
	not caller.identified
}

deny_reasons contains fault if {
	input.action in {"store.create", "store.update"}
	some fault in request_faults
}

_action_known if input.action in {
	"store.create", "store.list", "store.read", "store.search",
	"store.add", "store.update", "store.delete", "store.detach",
}
