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

# METADATA
# title: The caller's numbers that are given
# description: |
#   Every number that is given for a role of the caller, for the tenant, or by default, for names that need not be. Whose comes first is as
#   above. What is no number is given as it is: whoever reads it refuses it.
given(table, principal) := {name: limit |
	some name in _names(table, principal)
	limit := _given(table, name, principal)
}

_names(table, principal) := object.keys(_usual(table, principal)) | {name |
	some role in principal.roles
	some name, _ in table.roles[role]
}

_usual(table, principal) := object.union(table["default"], object.get(table.tenants, principal.tenant, {}))

_given(table, name, principal) := max(_of_roles(table, name, principal)) if count(_of_roles(table, name, principal)) > 0

_given(table, name, principal) := _usual(table, principal)[name] if count(_of_roles(table, name, principal)) == 0

_limit(table, name, principal) := max(_of_roles(table, name, principal)) if count(_of_roles(table, name, principal)) > 0

_limit(table, name, principal) := _of_tenant(table, name, principal) if count(_of_roles(table, name, principal)) == 0

_of_roles(table, name, principal) := {limit |
	some role in principal.roles
	limit := table.roles[role][name]
}

_of_tenant(table, name, principal) := object.get(table.tenants, [principal.tenant, name], table["default"][name])
