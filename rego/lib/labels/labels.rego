# METADATA
# title: Restricting labels
# description: Labels never grant. A label that operators list restricts, until the caller holds the role that lifts it.
# scope: package
# schemas:
#   - input: schema.input.common
#   - input.principal: schema.input.principal
#   - data.regate.deny_labels: schema.operators.deny_labels
package regate.lib.labels

# METADATA
# title: Labels that restrict this caller
# description: Every listed label whose lifting role the caller does not hold; a caller without roles is restricted by all of them.
restricted contains label if {
	some label, role in data.regate.deny_labels
	not _held(role)
}

_held(role) if role in input.principal.roles
