# METADATA
# title: The caller
# description: What is true of whoever asks, whatever they ask for.
# scope: package
# schemas:
#   - input: schema.input.common
#   - input.principal: schema.input.principal
package regate.lib.caller

# METADATA
# title: Identified
# description: The principal names a subject of a tenant. Every allow that rests on nothing else must rest on this.
identified if {
	is_string(input.principal.id)
	is_string(input.principal.tenant)
	input.principal.id != ""
	input.principal.tenant != ""
}
