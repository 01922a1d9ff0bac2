package regate.store

import data.regate.lib.sharing

# METADATA
# title: The stamp of a store that is new, or shared anew
# description: |
#   Defined only where that is allowed and, for a store that is there, where something is requested. Tenant and owner of a new store are the
#   caller's; they never change afterwards, and no label is ever taken off. Custom rules may add fields and change none.
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

stamp := object.union_n([
	_further,
	sharing.sharing(requested, input.principal),
	{
		"tenant": input.store.tenant,
		"owner": input.store.owner,
		"shared": "share" in object.keys(requested),
		"level": sharing.level(requested),
		"labels": sort({label | some label in sharing.labels(requested)} | {label | some label in input.store.labels}),
	},
]) if {
	input.action == "store.update"
	requested != {}
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
