# METADATA
# title: Vector stores
# description: |
#   Whether the caller may do something with a vector store. With the row unknown the same rule is the filter of listings, so what is said
#   about `input.store` stays within the filter fragment.
# scope: package
# compile:
#   unknowns: [input.store]
# schemas:
#   - input: schema.input.store
#   - input.principal: schema.input.principal
#   - input.store: schema.store
#   - input.requested: schema.input.requested
#   - input.attachment: schema.chunk
package regate.store

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: May this be done with the store?
# description: |
#   Reading and searching: the owner, a match, the whole tenant, or anybody where the store is shared. Adding: the owner, a match, or anybody
#   where it is shared. Changing: the owner or the tenant's store_admin. Creating, and sharing anew: whoever holds all
#   that they request. A custom rule may deny any of it.
# entrypoint: true
# custom:
#   code: store_allow
default allow := false

allow if {
	input.action in {"store.list", "store.read", "store.search"}
	readable
	not restricted
	not caller.suspended
	not data.regate.custom.store.deny
}

allow if {
	input.action == "store.add"
	addable
	not restricted
	not caller.suspended
	not data.regate.custom.store.deny
}

allow if {
	input.action == "store.delete"
	changeable
	not caller.suspended
	not data.regate.custom.store.deny
}

allow if {
	input.action == "store.update"
	changeable
	sharable
	count(request_faults) == 0
	not caller.suspended
	not data.regate.custom.store.deny
}

allow if {
	input.action == "store.detach"
	detachable
	not caller.suspended
	not data.regate.custom.store.deny
}

allow if {
	input.action == "store.create"
	caller.identified
	count(request_faults) == 0
	not caller.suspended
	not data.regate.custom.store.deny
}

# METADATA
# title: Readable
# description: The caller may know of the store, and search it.
readable if addable

readable if {
	within_reach
	input.store.visibility == "tenant"
}

readable if {
	within_reach
	data.regate.custom.store.grant == true
}

# METADATA
# title: Addable
# description: The caller may put documents into the store. That a store can be read by the tenant is not enough.
addable if owned

addable if {
	input.store.shared == true
	caller.identified
}

addable if {
	within_reach
	input.store.visibility in {"attributes", "tenant"}
	matched
}

# METADATA
# title: Changeable
# description: The caller may change and delete the store. A shared store stays the property of the tenant that made it.
changeable if owned

changeable if {
	input.store.tenant == input.principal.tenant
	"store_admin" in input.principal.roles
}

# METADATA
# title: Sharable
# description: Nobody but the owner shares anew what is above their clearance, which would bring it down to them.
sharable if requested == {}

sharable if owned

sharable if input.store.level <= input.principal.clearance

# METADATA
# title: Detachable
# description: A file may be taken out of the store by whoever may change the store, and by whoever put it there, in a shared store too.
detachable if changeable

detachable if {
	input.attachment.tenant == input.principal.tenant
	input.attachment.owner == input.principal.id
}

# METADATA
# title: Owned
# description: The store is the caller's own. A subject is somebody only together with the tenant.
owned if {
	input.store.tenant == input.principal.tenant
	input.store.owner == input.principal.id
}

# METADATA
# title: Within reach
# description: The store is of the caller's tenant and not above the caller's clearance.
within_reach if {
	input.store.tenant == input.principal.tenant
	input.store.level <= input.principal.clearance
}

# METADATA
# title: Matched
# description: One common team, role, project or namespace is enough.
matched if {
	some team in input.store.teams
	team in input.principal.teams
}

matched if {
	some role in input.store.roles
	role in input.principal.roles
}

matched if {
	some project in input.store.projects
	project in input.principal.projects
}

matched if {
	some namespace in input.store.namespaces
	namespace in input.principal.namespaces
}

# METADATA
# title: Restricted
# description: The store carries a label that restricts this caller, its owner included.
restricted if {
	some label in input.store.labels
	label in labels.restricted
}
