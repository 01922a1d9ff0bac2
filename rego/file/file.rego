# METADATA
# title: Files
# description: |
#   Whether the caller may do something with an uploaded file. With the row unknown the same rule is the filter of listings, so what is said
#   about `input.file` stays within the filter fragment.
# scope: package
# compile:
#   unknowns: [input.file]
# schemas:
#   - input: schema.input.file
#   - input.principal: schema.input.principal
#   - input.file: schema.file
#   - input.requested: schema.input.requested
package regate.file

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: May this be done with the file?
# description: |
#   Reading: the owner, a match, or the whole tenant. Deleting: the owner or the tenant's store_admin. Uploading, before anything is received:
#   whoever has limits. Creating, when all is received: whoever holds all that they request. A custom rule may deny any of it.
# entrypoint: true
# custom:
#   code: file_allow
default allow := false

allow if {
	input.action in {"file.list", "file.read"}
	readable
	not restricted
	not caller.suspended
	not data.regate.custom.file.deny
}

allow if {
	input.action == "file.delete"
	deletable
	not caller.suspended
	not data.regate.custom.file.deny
}

allow if {
	input.action == "file.upload"
	caller.identified
	count(unsaid_limits) == 0
	not caller.suspended
	not data.regate.custom.file.deny
}

allow if {
	input.action == "file.create"
	caller.identified
	count(request_faults) == 0
	not caller.suspended
	not data.regate.custom.file.deny
}

# METADATA
# title: Limits that are not said
# description: None may be missing.
unsaid_limits := limit_names - object.keys(said_limits)

# METADATA
# title: Readable
# description: The caller may read the file, and attach it to a store that may be added to.
readable if owned

readable if {
	input.file.tenant == input.principal.tenant
	input.file.level <= input.principal.clearance
	shared
}

# METADATA
# title: Deletable
# description: The caller may delete the file.
deletable if owned

deletable if {
	input.file.tenant == input.principal.tenant
	"store_admin" in input.principal.roles
}

# METADATA
# title: Owned
# description: The file is the caller's own. A subject is somebody only together with the tenant.
owned if {
	input.file.tenant == input.principal.tenant
	input.file.owner == input.principal.id
}

# METADATA
# title: Shared
# description: |
#   With the whole tenant, with holders of a matching attribute, or by a custom rule. A private file is shared with nobody, whatever else it
#   says, unless a custom rule says so.
shared if input.file.visibility == "tenant"

shared if {
	input.file.visibility == "attributes"
	matched
}

shared if data.regate.custom.file.grant == true

# METADATA
# title: Matched
# description: One common team, role, project or namespace is enough.
matched if {
	some team in input.file.teams
	team in input.principal.teams
}

matched if {
	some role in input.file.roles
	role in input.principal.roles
}

matched if {
	some project in input.file.projects
	project in input.principal.projects
}

matched if {
	some namespace in input.file.namespaces
	namespace in input.principal.namespaces
}

# METADATA
# title: Restricted
# description: The file carries a label that restricts this caller, its owner included.
restricted if {
	some label in input.file.labels
	label in labels.restricted
}
