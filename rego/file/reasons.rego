package regate.file

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: Why not
# description: For the audit record, and for callers who may know of the file. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: file_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "tenant_suspended" if caller.suspended

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.file.deny

deny_reasons contains "not_shared_with_principal" if {
	input.action in {"file.list", "file.read"}
	not readable
}

deny_reasons contains sprintf("label_restricted: %s", [label]) if {
	input.action in {"file.list", "file.read"}
	some label in input.file.labels
	label in labels.restricted
}

deny_reasons contains "neither_owner_nor_store_admin" if {
	input.action == "file.delete"
	not deletable
}

deny_reasons contains "caller_not_identified" if {
	input.action in {"file.upload", "file.create"}
	not caller.identified
}

deny_reasons contains sprintf("no_limit: %s", [name]) if {
	input.action == "file.upload"
	some name in unsaid_limits
}

deny_reasons contains fault if {
	input.action == "file.create"
	some fault in request_faults
}

_action_known if input.action in {"file.upload", "file.create", "file.list", "file.read", "file.delete"}
