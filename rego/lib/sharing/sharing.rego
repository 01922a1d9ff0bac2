# METADATA
# title: Sharing requests
# description: |
#   What a client asks for is not what is stamped. These functions say what is wrong with a request and what an acceptable one amounts to;
#   the packages store, file and ingest make their stamps from them.
# scope: package
package regate.lib.sharing

_lists := {"teams", "roles", "projects", "namespaces"}

_visibilities := {"private", "attributes", "tenant"}

# METADATA
# title: Keys that say who else may read
# description: Whoever does not own a file may request none of these, since its sharing is the owner's affair.
keys := _lists | {"visibility"}

# METADATA
# title: Keys that a document may be stamped with on request
# description: Everything else, such as a legal hold, is not for clients to ask.
requestable := keys | {"level", "labels"}

# METADATA
# title: What is wrong with a request
# description: |
#   The set of faults, in words for whoever asked; empty when everything requested is held by the principal. `allowed` are the keys that may
#   be requested here.
faults(requested, _, _) := {"requested: must be an object"} if not is_object(requested)

faults(requested, principal, allowed) := _unknown(requested, allowed) | _unheld(requested, principal, allowed) if is_object(requested)

_unknown(requested, allowed) := {sprintf("%s: cannot be requested", [key]) |
	some key, _ in requested
	not key in allowed
}

_unheld(requested, principal, allowed) := {sprintf("%s: %s", [key, _advice[key]]) |
	some key, value in requested
	key in allowed
	not _acceptable(key, value, principal)
}

_advice := {
	"visibility": "must be private, attributes or tenant",
	"teams": "may name only teams that you hold",
	"roles": "may name only roles that you hold",
	"projects": "may name only projects that you hold",
	"namespaces": "may name only namespaces that you hold",
	"level": "must be a whole number from 0 to your clearance",
	"labels": "must be a list of names",
	"share": "must be all_tenants, and needs the role store_admin",
}

_acceptable("visibility", value, _) if value in _visibilities

_acceptable(key, value, principal) if {
	key in _lists
	is_array(value)
	every name in value {
		name in principal[key]
	}
}

_acceptable("level", value, principal) if {
	is_number(value)
	value == floor(value)
	value >= 0
	value <= principal.clearance
}

_acceptable("labels", value, _) if {
	is_array(value)
	every label in value {
		is_string(label)
		label != ""
	}
}

_acceptable("share", "all_tenants", principal) if "store_admin" in principal.roles

# METADATA
# title: Who else may read
# description: |
#   The sharing fields of a stamp. Nothing requested is the owner's teams, projects and namespaces; whoever requests one of the lists gets
#   the others empty; private has no list at all.
sharing(requested, principal) := object.union({"visibility": visibility}, _listed(visibility, requested, principal)) if {
	visibility := object.get(requested, "visibility", "attributes")
}

_listed("private", _, _) := {key: [] | some key in _lists}

_listed(visibility, requested, _) := {key: object.get(requested, key, []) | some key in _lists} if {
	visibility != "private"
	_names_a_list(requested)
}

_listed(visibility, requested, principal) := lists if {
	visibility != "private"
	not _names_a_list(requested)
	lists := {"teams": principal.teams, "roles": [], "projects": principal.projects, "namespaces": principal.namespaces}
}

_names_a_list(requested) if {
	some key, _ in requested
	key in _lists
}

# METADATA
# title: The level asked for
# description: 0 when none was requested.
level(requested) := object.get(requested, "level", 0)

# METADATA
# title: The labels asked for
# description: Sorted and without duplicates; empty when none were requested.
labels(requested) := sort({label | some label in object.get(requested, "labels", [])})
