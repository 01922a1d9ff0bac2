# METADATA
# title: Limits
# description: Numbers that operators give to everyone, to single tenants and to holders of roles, and which of them are a caller's.
# scope: package
package regate.lib.limits

# METADATA
# title: The caller's numbers
# description: |
#   Those of the names for which a whole number is said. What is said for a role of the caller comes before what is said for the tenant, and
#   that before the default, which must be said all the same; of several roles the most counts.
said(table, names, principal) := {name: limit |
	some name in names
	limit := _limit(table, name, principal)

	# A whole number as JSON writes it; total, whatever is given.
	regex.match(`^[0-9]+$`, json.marshal(limit))
}

_limit(table, name, principal) := max(_of_roles(table, name, principal)) if count(_of_roles(table, name, principal)) > 0

_limit(table, name, principal) := _of_tenant(table, name, principal) if count(_of_roles(table, name, principal)) == 0

_of_roles(table, name, principal) := {limit |
	some role in principal.roles
	limit := table.roles[role][name]
}

_of_tenant(table, name, principal) := object.get(table.tenants, [principal.tenant, name], table["default"][name])
