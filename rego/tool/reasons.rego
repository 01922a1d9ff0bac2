package regate.tool

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: Why not
# description: For the audit record. Empty exactly when the rule asked for allows.
# entrypoint: true
# custom:
#   code: tool_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "caller_not_identified" if not caller.identified

deny_reasons contains "tenant_suspended" if caller.suspended

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.tool.deny

deny_reasons contains "unknown_tool_type" if {
	_action_known
	not _type_known
}

deny_reasons contains "tool_denied" if {
	_action_known
	not _name_granted
}

deny_reasons contains "tool_not_granted" if {
	_action_known
	not _catalogue_granted
}

deny_reasons contains "labels_unknown" if {
	input.action == "tool.result"
	not _labelled
}

deny_reasons contains sprintf("label_restricted: %s", [label]) if {
	input.action == "tool.result"
	some label in input.result.labels
	label in labels.restricted
}

deny_reasons contains "result_too_large" if {
	input.action == "tool.result"
	not _small_enough
}

deny_reasons contains "domain_denied" if {
	input.action == "tool.result"
	not _host_permitted
}

_action_known if input.action in _calls

_action_known if input.action == "tool.result"
