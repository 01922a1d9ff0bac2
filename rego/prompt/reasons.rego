package regate.prompt

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: Why not
# description: For the audit record, and for callers who may know of the prompt. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: prompt_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.prompt.deny

deny_reasons contains "not_shared_with_principal" if {
	input.action in {"prompt.list", "prompt.read", "prompt.use"}
	not readable
}

deny_reasons contains sprintf("label_restricted: %s", [label]) if {
	input.action in {"prompt.list", "prompt.read", "prompt.use"}
	some label in input.prompt.labels
	label in labels.restricted
}

deny_reasons contains "neither_owner_nor_administrator" if {
	input.action in {"prompt.update", "prompt.delete"}
	not changeable
}

deny_reasons contains "caller_not_identified" if {
	input.action == "prompt.create"
	not caller.identified
}

deny_reasons contains fault if {
	input.action == "prompt.create"
	some fault in request_faults
}

_action_known if input.action in {
	"prompt.create", "prompt.list", "prompt.read", "prompt.use",
	"prompt.update", "prompt.delete",
}
