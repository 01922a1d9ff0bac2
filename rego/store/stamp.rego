package regate.store

import data.regate.lib.sharing

# METADATA
# title: The stamp of a new store
# description: |
#   Defined only where creating is allowed. Tenant and owner are the caller's, whatever was requested. Custom rules may add fields and change
#   none.
# entrypoint: true
# custom:
#   code: store_stamp
stamp := object.union_n([
	_further,
	sharing.sharing(requested, input.principal),
	{
		"tenant": input.principal.tenant,
		"owner": input.principal.id,
		"shared": "share" in object.keys(requested),
		"level": sharing.level(requested),
		"labels": sharing.labels(requested),
	},
]) if {
	input.action == "store.create"
	allow
}

# METADATA
# title: What was requested
# description: Nothing, when the key is absent.
requested := object.get(input, "requested", {})

# METADATA
# title: What is wrong with the request
# description: Of stores alone it may be requested that all tenants use them.
request_faults := sharing.faults(requested, input.principal, sharing.requestable | {"share"})

default _further := {}

_further := data.regate.custom.store.stamp if is_object(data.regate.custom.store.stamp)
