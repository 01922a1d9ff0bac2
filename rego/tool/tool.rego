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
#   - data.regate.denied_domains: schema.operators.denied_domains
#   - data.regate.max_tool_result_bytes: schema.operators.max_tool_result_bytes
package regate.tool

import data.regate.lib.caller
import data.regate.lib.labels

_calls := {"tool.call", "tool.list"}

# These need no entry in the catalogue; every other type does.
_open_types := {"apply_patch", "computer", "file_search", "function", "local_shell", "shell", "tool_search"}

# METADATA
# title: May the tool run with these arguments?
# description: |
#   Retrieval and the tools that the client runs itself may, and what the catalogue grants to the caller, unless operators deny the name and the caller
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
	not caller.suspended
	not data.regate.custom.tool.deny
}

# METADATA
# title: Which tools may the model see?
# description: |
#   The names of those in `input.tools` that could be called, each below its server's label, if it has one. A name that two tools share is
#   shown only if both may be seen.
# entrypoint: true
# custom:
#   code: tool_visible
visible contains name if {
	some offered in input.tools
	name := _key_of(offered)
	not name in _hidden
}

# METADATA
# title: Must a person approve the call first?
# description: |
#   Always, unless the tool changes nothing and the catalogue does not ask for it, or the catalogue says that it needs none. A custom rule may
#   ask for it anyway.
# entrypoint: true
# custom:
#   code: tool_needs_approval
default needs_approval := true

needs_approval := false if {
	input.tool.side_effect == false
	not _entry.needs_approval == true
	not data.regate.custom.tool.approve
}

needs_approval := false if {
	_entry.needs_approval == false
	not data.regate.custom.tool.approve
}

# METADATA
# title: What must be done with a call
# description: |
#   `max_result_bytes`, and what the catalogue or a custom rule adds: `deadline_s`; `set_arguments`, which the call has whatever the model
#   wrote; `max_arguments`, the largest that numbers may be; `redact`, the members of a structured result whose values nobody sees; `labels`,
#   which the result bears. What the custom rule says goes before the catalogue. The gateway refuses a call for what it cannot do.
# entrypoint: true
# custom:
#   code: tool_obligations
obligations := object.union_n([_catalogued, _custom, {"max_result_bytes": _most_bytes}])

# METADATA
# title: May the result enter the prompt?
# description: |
#   Only when the caller could call the tool now, nothing in it is restricted for them, it is not too large, operators do not deny the domain
#   of a page, and no custom rule denies. A result of unknown labels or size may not. It is asked again at each use of what was made from the
#   result.
# entrypoint: true
# custom:
#   code: tool_admit_result
default admit_result := false

admit_result if {
	input.action == "tool.result"
	caller.identified
	_type_known
	_name_granted
	_catalogue_granted
	_unrestricted
	_small_enough
	_host_permitted
	not caller.suspended
	not data.regate.custom.tool.deny
}

_hidden contains _key_of(offered) if {
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
_key := _key_of(input.tool)

_key_of(tool) := tool.name if tool.server_label == ""

_key_of(tool) := concat("/", [tool.server_label, tool.name]) if {
	is_string(tool.name)
	is_string(tool.server_label)
	tool.server_label != ""
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

_catalogued := {name: value |
	some name in {"deadline_s", "labels", "max_arguments", "redact", "set_arguments"}
	value := _entry[name]
}

default _custom := {}

_custom := data.regate.custom.tool.obligations

_most_bytes := min((({data.regate.max_tool_result_bytes} | {bytes | bytes := _entry.max_result_bytes}) | _custom_bytes))

# By its name, as a custom rule need not say it.
_custom_bytes := {bytes | some name, bytes in _custom; name == "max_result_bytes"}

_labelled if is_array(input.result.labels)

_unrestricted if {
	_labelled
	every label in input.result.labels {
		not label in labels.restricted
	}
}

# What is no page has no host.
_host_permitted if not _is_page

_is_page if count([input.result.host]) == 1

_host_permitted if {
	is_string(input.result.host)
	not _host_denied
}

_host_denied if {
	some domain, role in data.regate.denied_domains
	_within(domain, input.result.host)
	not _held(role)
}

_within(domain, domain)

_within(domain, host) if endswith(host, concat("", [".", domain]))

_small_enough if {
	is_number(input.result.size)
	input.result.size <= _most_bytes
}
