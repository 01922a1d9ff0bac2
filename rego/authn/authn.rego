# METADATA
# title: Who the caller is
# description: |
#   Makes a principal of the claims of a token. Its signature, issuer, audience and times were verified before; here the claims are read.
#   A claim of the wrong type makes no principal at all, never a poorer one.
# scope: package
# schemas:
#   - input: schema.input.authn
#   - data.regate.tenants: schema.operators.tenants
package regate.authn

_methods := {"jwt", "kubernetes", "api_key", "mtls", "anonymous"}

_name_lists := {"teams", "roles", "projects", "namespaces"}

_greatest := 9007199254740992 # 2^53: larger whole numbers are not exact in every store

# METADATA
# title: The principal
# description: |
#   Undefined, and so unauthenticated, when any claim it is made of is missing or has not the right type, or its tenant is suspended. Custom
#   rules may make attributes of further claims.
# entrypoint: true
# custom:
#   code: authn_principal
principal := {
	"id": input.claims.sub,
	"tenant": input.claims.tenant,
	"teams": _claim("teams", []),
	"roles": _claim("roles", []),
	"projects": _claim("projects", []),
	"namespaces": _claim("namespaces", _own_namespaces),
	"scopes": _scopes,
	"clearance": _claim("clearance", 0),
	"attrs": _attrs,
} if {
	count(deny_reasons) == 0
}

# METADATA
# title: Why there is no principal
# description: For the audit record; the caller is told no more than that the token does not do.
# entrypoint: true
# custom:
#   code: authn_deny_reasons
deny_reasons contains "method: is none that is known" if not _method_known

deny_reasons contains "tenant is suspended" if data.regate.tenants[_claim("tenant", null)].suspended == true

deny_reasons contains "denied by a custom rule" if data.regate.custom.authn.deny

deny_reasons contains sprintf("claim %s: must be a name", [claim]) if {
	some claim in {"sub", "tenant"}
	not _is_name(_claim(claim, null))
}

deny_reasons contains sprintf("claim %s: must be a list of names", [claim]) if {
	some claim in _name_lists
	not _are_names(_claim(claim, []))
}

# RFC 8705, section 3: such a token is for whoever holds the certificate's key, and for nobody who took the token.
deny_reasons contains "claim cnf: bound to a certificate that was not presented" if {
	bound := _confirmation["x5t#S256"]
	not _presented(bound)
}

deny_reasons contains "claim namespace: must be a name" if {
	input.method == "kubernetes"
	not _is_name(_claim("namespace", null))
}

deny_reasons contains "claim scope: must be a list of names, or names separated by blanks" if not _scopes_valid

deny_reasons contains "claim clearance: must be a whole number" if not _is_clearance(_claim("clearance", 0))

_confirmation := _claim("cnf", {}) if is_object(_claim("cnf", {}))

_presented(thumbprint) if thumbprint == input.peer["x5t#S256"]

# A service account is of its namespace. Its groups are attributes and no teams: the cluster puts all accounts
# into some of them, and what is shared with a team is shared with all who are in it.
default _own_namespaces := []

_own_namespaces := [_claim("namespace", null)] if input.method == "kubernetes"

_attrs := object.union(_own_attrs, _custom_attrs)

default _own_attrs := {}

_own_attrs := {"groups": _claim("groups", [])} if input.method == "kubernetes"

default _custom_attrs := {}

_custom_attrs := data.regate.custom.authn.attrs if is_object(data.regate.custom.authn.attrs)

_method_known if input.method in _methods

_claims := input.claims if is_object(input.claims)

default _claims := {}

_claim(name, otherwise) := object.get(_claims, name, otherwise)

_is_name(value) if {
	is_string(value)
	regex.match(`^[A-Za-z0-9][A-Za-z0-9._:@|/+-]{0,127}$`, value)
}

_are_names(value) if {
	is_array(value)
	every name in value {
		_is_name(name)
	}
}

_scopes_valid if _are_names(_scopes)

_scopes := scope if {
	scope := _claim("scope", [])
	not is_string(scope)
}

_scopes := [name | some name in split(scope, " "); name != ""] if {
	scope := _claim("scope", [])
	is_string(scope)
}

_is_clearance(value) if {
	is_number(value)
	value == floor(value)
	value >= 0
	value <= _greatest
}
