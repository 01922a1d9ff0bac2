# METADATA
# title: Chunk admission
# description: |
#   The one rule of retrieval, used twice: evaluated in full it admits or refuses a chunk, and with the chunk unknown it is compiled into the
#   filter inside the search. So all that is said about `input.chunk` stays within the filter fragment: comparisons with known values,
#   chunk-first membership, and negation of named rules only.
# scope: package
# compile:
#   unknowns: [input.chunk]
# schemas:
#   - input: schema.input.chunk
#   - input.principal: schema.input.principal
#   - input.store: schema.store
#   - input.chunk: schema.chunk
package regate.chunk

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: May the chunk enter the caller's prompt?
# description: |
#   Its owner may read it, and whoever of the tenant it is shared with, once its embargo is over and as far as no legal hold, no label and no
#   custom rule restricts it.
# entrypoint: true
# custom:
#   code: chunk_allow
default allow := false

allow if {
	input.action == "chunk.read"
	input.chunk.tenant == input.principal.tenant
	input.chunk.embargo_until <= input.now
	unheld
	granted
	not restricted
	not caller.suspended
	not data.regate.custom.chunk.deny
}

# METADATA
# title: Granted
# description: The chunk is the caller's own, or is shared with the caller and not above the caller's clearance.
granted if input.chunk.owner == input.principal.id

granted if {
	input.chunk.level <= input.principal.clearance
	shared
}

# METADATA
# title: Shared
# description: |
#   With the whole tenant, with holders of a matching attribute, or by a custom rule. A private chunk is shared with nobody, whatever else it
#   says, unless a custom rule says so.
shared if input.chunk.visibility == "tenant"

shared if {
	input.chunk.visibility == "attributes"
	matched
}

shared if data.regate.custom.chunk.grant == true

# METADATA
# title: Matched
# description: One common team, role, project or namespace is enough.
matched if {
	some team in input.chunk.teams
	team in input.principal.teams
}

matched if {
	some role in input.chunk.roles
	role in input.principal.roles
}

matched if {
	some project in input.chunk.projects
	project in input.principal.projects
}

matched if {
	some namespace in input.chunk.namespaces
	namespace in input.principal.namespaces
}

# METADATA
# title: Unheld
# description: There is no legal hold, or the caller works for it. Stated so that a chunk that does not say is held.
unheld if input.chunk.legal_hold == false

unheld if "legal" in input.principal.roles

# METADATA
# title: Restricted
# description: The chunk carries a label that restricts this caller, its owner included.
restricted if {
	some label in input.chunk.labels
	label in labels.restricted
}
