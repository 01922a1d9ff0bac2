# METADATA
# title: Tools
# description: |
#   Which tools the model may see, whether one may run with these arguments under the caller's authority, and whether its result may enter the
#   prompt.
# scope: package
# schemas:
#   - input: schema.input.tool
#   - input.principal: schema.input.principal
#   - input.tool: schema.input.tool_call
#   - data.regate.tools: schema.operators.tools
#   - data.regate.denied_tools: schema.operators.denied_tools
#   - data.regate.max_tool_result_bytes: schema.operators.max_tool_result_bytes
package regate.tool

import data.regate.lib.caller
import data.regate.lib.labels

_calls := {"tool.call", "tool.list"}

# These need no entry in the catalogue; every other type does.
_open_types := {"file_search", "function"}

# METADATA
# title: May the tool run with these arguments?
# description: |
#   Retrieval and the client's own functions may, and what the catalogue grants to the caller, unless operators deny the name and the caller
#   does not hold the lifting role, or a custom rule denies. `tool.list` asks the same without arguments: may the model see it at all?
# entrypoint: true
# custom:
#   code: tool_allow
default allow := false

allow if {
	input.action in _calls
	caller.identified
	_type_known
	_name_granted
	_catalogue_granted
	not data.regate.custom.tool.deny
}

# METADATA
# title: Which tools may the model see?
# description: The names of those in `input.tools` that could be called. A name that two tools share is shown only if both may be seen.
# entrypoint: true
# custom:
#   code: tool_visible
visible contains offered.name if {
	some offered in input.tools
	not offered.name in _hidden
}

# METADATA
# title: Must a person approve the call first?
# description: Always, unless the tool says that it changes nothing, and neither the catalogue nor a custom rule asks for approval.
# entrypoint: true
# custom:
#   code: tool_needs_approval
default needs_approval := true

needs_approval := false if {
	input.tool.side_effect == false
	not _approval_wanted
}

# METADATA
# title: What must be done with a call
# description: |
#   `max_result_bytes`, and `deadline_s` where the catalogue has one. The gateway cuts calls off at these; one that it cannot do is a refusal.
# entrypoint: true
# custom:
#   code: tool_obligations
obligations := object.union(_deadline, {"max_result_bytes": _most_bytes})

# METADATA
# title: May the result enter the prompt?
# description: |
#   Only when nothing in it is restricted for the caller, it is not too large, and no custom rule denies. A result of unknown labels or size
#   may not.
# entrypoint: true
# custom:
#   code: tool_admit_result
default admit_result := false

admit_result if {
	input.action == "tool.result"
	caller.identified
	_unrestricted
	_small_enough
	not data.regate.custom.tool.deny
}

_hidden contains offered.name if {
	some offered in input.tools
	not _listable(offered)
}

_listable(offered) if {
	data.regate.tool.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "tool.list",
		"principal": input.principal, "tool": offered,
	}
}

# The name in the catalogue.
_key := input.tool.name if input.tool.server_label == ""

_key := concat("/", [input.tool.server_label, input.tool.name]) if {
	is_string(input.tool.name)
	is_string(input.tool.server_label)
	input.tool.server_label != ""
}

_entry := data.regate.tools[_key]

_type_known if input.tool.type in _open_types

_type_known if input.tool.type == _entry.type

_name_granted if {
	is_string(_key)
	not _name_denied
}

_name_denied if {
	some name, role in data.regate.denied_tools
	name in {_key, input.tool.name}
	not _held(role)
}

_catalogue_granted if not _entry

# Whatever bears the name of a tool in the catalogue must be that tool.
_catalogue_granted if {
	input.tool.type == _entry.type
	some role in _entry.tenants[input.principal.tenant]
	_held_or_open(role)
}

_held(role) if role in input.principal.roles

_held_or_open("everyone")

_held_or_open(role) if _held(role)

_approval_wanted if _entry.needs_approval == true

_approval_wanted if data.regate.custom.tool.approve

_deadline := {"deadline_s": seconds | seconds := _entry.deadline_s}

_most_bytes := min({data.regate.max_tool_result_bytes} | {bytes | bytes := _entry.max_result_bytes})

_labelled if is_array(input.result.labels)

_unrestricted if {
	_labelled
	every label in input.result.labels {
		not label in labels.restricted
	}
}

_small_enough if {
	is_number(input.result.size)
	input.result.size <= _most_bytes
}
