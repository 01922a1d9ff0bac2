package regate.prompt

import data.regate.lib.sharing

# METADATA
# title: The stamp of a new prompt
# description: |
#   Defined only where creating is allowed. Tenant and owner are the caller's, whatever was requested. Custom rules may add fields and change
#   none.
# entrypoint: true
# custom:
#   code: prompt_stamp
stamp := object.union_n([
	_further,
	sharing.sharing(requested, input.principal),
	{
		"tenant": input.principal.tenant,
		"owner": input.principal.id,
		"level": sharing.level(requested),
		"labels": sharing.labels(requested),
	},
]) if {
	input.action == "prompt.create"
	allow
}

# METADATA
# title: What was requested
# description: Nothing, when the key is absent.
requested := object.get(input, "requested", {})

# METADATA
# title: What is wrong with the request
# description: One may request only what one holds.
request_faults := sharing.faults(requested, input.principal, sharing.requestable)

default _further := {}

_further := data.regate.custom.prompt.stamp if is_object(data.regate.custom.prompt.stamp)
