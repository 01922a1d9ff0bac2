# METADATA
# title: The caller
# description: What is true of whoever asks, whatever they ask for.
# scope: package
# schemas:
#   - input: schema.input.common
#   - input.principal: schema.input.principal
#   - data.regate.tenants: schema.operators.tenants
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

# METADATA
# title: Administers the tenant
# description: The caller holds the role policy_admin, or operators name them. Never more than their own tenant; whoever rests on this says so.
administers if "policy_admin" in input.principal.roles

administers if input.principal.id in data.regate.tenants[input.principal.tenant].admins

# METADATA
# title: Suspended
# description: |
#   Operators suspended the caller's tenant. Then there is no principal, so nobody comes this far but in a request that began before: what it
#   asks for next is denied.
suspended if data.regate.tenants[input.principal.tenant].suspended == true
