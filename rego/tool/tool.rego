# METADATA
# title: Tools
# description: Whether a tool may run with these arguments under the caller's authority, and whether its result may enter the prompt.
# scope: package
# schemas:
#   - input: schema.input.tool
#   - input.principal: schema.input.principal
#   - input.tool: schema.input.tool_call
#   - data.regate.denied_tools: schema.operators.denied_tools
#   - data.regate.max_tool_result_bytes: schema.operators.max_tool_result_bytes
package regate.tool

import data.regate.lib.caller
import data.regate.lib.labels

_types := {"file_search", "function"}

# METADATA
# title: May the tool run with these arguments?
# description: Retrieval and the client's own functions may, unless operators deny the name and the caller does not hold the lifting role.
# entrypoint: true
# custom:
#   code: tool_allow
default allow := false

allow if {
	input.action == "tool.call"
	caller.identified
	_type_known
	_name_granted
}

# METADATA
# title: Must a person approve the call first?
# description: Whatever declares that it changes something is approved first.
# entrypoint: true
# custom:
#   code: tool_needs_approval
default needs_approval := false

needs_approval if input.tool.side_effect == true

# METADATA
# title: May the result enter the prompt?
# description: Only when nothing in it is restricted for the caller and it is not too large. A result of unknown labels or size may not.
# entrypoint: true
# custom:
#   code: tool_admit_result
default admit_result := false

admit_result if {
	input.action == "tool.result"
	caller.identified
	_unrestricted
	_small_enough
}

# METADATA
# title: Why not
# description: For the audit record. Empty exactly when the rule asked for allows.
# entrypoint: true
# custom:
#   code: tool_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "caller_not_identified" if not caller.identified

deny_reasons contains "unknown_tool_type" if {
	input.action == "tool.call"
	not _type_known
}

deny_reasons contains "tool_denied" if {
	input.action == "tool.call"
	not _name_granted
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

_action_known if input.action in {"tool.call", "tool.result"}

_type_known if input.tool.type in _types

_name_granted if {
	is_string(input.tool.name)
	not _name_denied
}

_name_granted if data.regate.denied_tools[input.tool.name] in input.principal.roles

_name_denied if {
	some name, _ in data.regate.denied_tools
	name == input.tool.name
}

_labelled if is_array(input.result.labels)

_unrestricted if {
	_labelled
	every label in input.result.labels {
		not label in labels.restricted
	}
}

_small_enough if {
	is_number(input.result.size)
	input.result.size <= data.regate.max_tool_result_bytes
}
