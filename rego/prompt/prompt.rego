# METADATA
# title: Prompt templates
# description: |
#   Whether the caller may do something with a stored prompt template. With the row unknown the same rule is the filter of listings, so what
#   is said about `input.prompt` stays within the filter fragment.
# scope: package
# compile:
#   unknowns: [input.prompt]
# schemas:
#   - input: schema.input.prompt
#   - input.principal: schema.input.principal
#   - input.prompt: schema.prompt
#   - input.requested: schema.input.requested
package regate.prompt

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: May this be done with the prompt?
# description: |
#   Reading and using: the owner, a match, or the whole tenant. Changing and deleting: the owner, or the tenant's administrators where it is
#   no private draft. Creating: whoever holds all that they request. A custom rule may deny any of it.
# entrypoint: true
# custom:
#   code: prompt_allow
default allow := false

allow if {
	input.action in {"prompt.list", "prompt.read", "prompt.use"}
	readable
	not restricted
	not data.regate.custom.prompt.deny
}

allow if {
	input.action in {"prompt.update", "prompt.delete"}
	changeable
	not data.regate.custom.prompt.deny
}

allow if {
	input.action == "prompt.create"
	caller.identified
	count(request_faults) == 0
	not data.regate.custom.prompt.deny
}

# METADATA
# title: Readable
# description: The caller may read the prompt, and use it in a request.
readable if owned

readable if {
	input.prompt.tenant == input.principal.tenant
	input.prompt.level <= input.principal.clearance
	shared
}

# METADATA
# title: Changeable
# description: The caller may change and delete the prompt. A private draft is its owner's alone.
changeable if owned

changeable if {
	input.prompt.tenant == input.principal.tenant
	input.prompt.visibility in {"attributes", "tenant"}
	caller.administers
}

# METADATA
# title: Owned
# description: The prompt is the caller's own. A subject is somebody only together with the tenant.
owned if {
	input.prompt.tenant == input.principal.tenant
	input.prompt.owner == input.principal.id
}

# METADATA
# title: Shared
# description: |
#   With the whole tenant, with holders of a matching attribute, or by a custom rule. A private prompt is shared with nobody, whatever else it
#   says, unless a custom rule says so.
shared if input.prompt.visibility == "tenant"

shared if {
	input.prompt.visibility == "attributes"
	matched
}

shared if data.regate.custom.prompt.grant == true

# METADATA
# title: Matched
# description: One common team, role, project or namespace is enough.
matched if {
	some team in input.prompt.teams
	team in input.principal.teams
}

matched if {
	some role in input.prompt.roles
	role in input.principal.roles
}

matched if {
	some project in input.prompt.projects
	project in input.principal.projects
}

matched if {
	some namespace in input.prompt.namespaces
	namespace in input.principal.namespaces
}

# METADATA
# title: Restricted
# description: The prompt carries a label that restricts this caller, its owner included.
restricted if {
	some label in input.prompt.labels
	label in labels.restricted
}
