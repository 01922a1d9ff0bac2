package regate.authn_test

import data.regate.authn

verified(claims) := {
	"v": 1, "now": 1000, "request_id": "req_1", "action": "authn.principal",
	"method": "jwt", "provider": {"name": "idp", "kind": "jwt"}, "claims": claims,
}

named := {"sub": "ann", "tenant": "acme"}

bare := {
	"id": "ann", "tenant": "acme", "teams": [], "roles": [], "projects": [], "namespaces": [],
	"scopes": [], "clearance": 0, "attrs": {},
}

# further claims, and how they change the principal
mapped := {
	"nothing more": [{}, {}],
	"all lists": [
		{"teams": ["hr"], "roles": ["editor"], "projects": ["apollo"], "namespaces": ["prod"]},
		{"teams": ["hr"], "roles": ["editor"], "projects": ["apollo"], "namespaces": ["prod"]},
	],
	"scopes separated by blanks": [{"scope": "read  write"}, {"scopes": ["read", "write"]}],
	"no scope": [{"scope": ""}, {"scopes": []}],
	"scopes as a list": [{"scope": ["read"]}, {"scopes": ["read"]}],
	"a clearance": [{"clearance": 3}, {"clearance": 3}],
	"claims that mean nothing here": [{"aud": "regate", "admin": true}, {}],
	"a subject with every permitted mark": [{"sub": "a._:@|/+-9"}, {"id": "a._:@|/+-9"}],
}

sub := "claim sub: must be a name"

tenant := "claim tenant: must be a name"

teams := "claim teams: must be a list of names"

scope := "claim scope: must be a list of names, or names separated by blanks"

clearance := "claim clearance: must be a whole number"

# claims that replace good ones, and why they make no principal
refused := {
	"an empty subject": [{"sub": ""}, {sub}],
	"a subject that is null": [{"sub": null}, {sub}],
	"a number for a subject": [{"sub": 7}, {sub}],
	"a list for a subject": [{"sub": ["ann"]}, {sub}],
	"a subject with a blank": [{"sub": " ann"}, {sub}],
	"a subject with a line end": [{"sub": "ann\n"}, {sub}],
	"a subject of 129 characters": [{"sub": concat("", [x | some _ in numbers.range(1, 129); x := "a"])}, {sub}],
	"a tenant that is null": [{"tenant": null}, {tenant}],
	"a tenant that is true": [{"tenant": true}, {tenant}],
	"a tenant with a wildcard": [{"tenant": "*"}, {tenant}],
	"a tenant of look-alikes": [{"tenant": "аcme"}, {tenant}],
	"teams as a string": [{"teams": "hr"}, {teams}],
	"teams as an object": [{"teams": {"hr": "hr"}}, {teams}],
	"teams that are null": [{"teams": null}, {teams}],
	"teams with a number": [{"teams": ["hr", 1]}, {teams}],
	"roles as a string": [{"roles": "hr"}, {"claim roles: must be a list of names"}],
	"projects as a number": [{"projects": 1}, {"claim projects: must be a list of names"}],
	"namespaces with an empty name": [{"namespaces": [""]}, {"claim namespaces: must be a list of names"}],
	"a number for a scope": [{"scope": 1}, {scope}],
	"scopes of lists": [{"scope": [["read"]]}, {scope}],
	"a clearance as text": [{"clearance": "9"}, {clearance}],
	"a clearance that is true": [{"clearance": true}, {clearance}],
	"a clearance that is null": [{"clearance": null}, {clearance}],
	"half a clearance": [{"clearance": 0.5}, {clearance}],
	"a negative clearance": [{"clearance": -1}, {clearance}],
	"a clearance past exact numbers": [{"clearance": 9007199254740993}, {clearance}],
	"two faults": [{"sub": "", "clearance": []}, {sub, clearance}],
}

test_there_are_cases if {
	count(mapped) == 8
	count(refused) == 27
}

test_mapped[name] if {
	some name, [claims, changes] in mapped
	question := verified(object.union(named, claims))
	authn.principal == object.union(bare, changes) with input as question
	authn.deny_reasons == set() with input as question
}

test_refused[name] if {
	some name, [claims, reasons] in refused
	question := verified(object.union(named, claims))
	not authn.principal with input as question
	authn.deny_reasons == reasons with input as question
}

test_a_name_may_have_128_characters if {
	long := concat("", [x | some _ in numbers.range(1, 128); x := "a"])
	authn.principal.id == long with input as verified({"sub": long, "tenant": "acme"})
}

test_no_principal_without[claim] if {
	some claim in ["sub", "tenant"]
	question := json.remove(verified(named), [sprintf("claims/%s", [claim])])
	not authn.principal with input as question
	authn.deny_reasons == {sprintf("claim %s: must be a name", [claim])} with input as question
}

test_no_principal_of_claims_that_are_no_object if {
	not authn.principal with input as verified(["ann", "acme"])
	authn.deny_reasons == {sub, tenant} with input as verified(["ann", "acme"])
	not authn.principal with input as {"method": "jwt"}
	not authn.principal with input as {}
}

test_the_anonymous_are_mapped_the_same_way if {
	authn.principal == bare with input as object.union(verified(named), {"method": "anonymous"})
}

test_api_keys_are_mapped_the_same_way if {
	authn.principal == bare with input as object.union(verified(named), {"method": "api_key"})
}

account := {
	"sub": "system:serviceaccount:team-a:crawler", "tenant": "acme",
	"namespace": "team-a", "groups": ["system:serviceaccounts"],
}

of_account(claims) := object.union(verified(claims), {
	"method": "kubernetes",
	"provider": {"name": "cluster", "kind": "kubernetes"},
})

test_a_service_account_is_of_its_namespace if {
	changes := {"id": account.sub, "namespaces": ["team-a"], "attrs": {"groups": ["system:serviceaccounts"]}}
	authn.principal == object.union(bare, changes) with input as of_account(account)
}

test_attributes_of_a_custom_rule_are_beside_the_groups if {
	attrs := authn.principal.attrs with input as of_account(account) with data.regate.custom.authn.attrs as {"region": "eu"}
	attrs == {"groups": ["system:serviceaccounts"], "region": "eu"}
}

test_a_service_account_without_a_tenant_has_no_principal if {
	question := of_account(object.remove(account, ["tenant"]))
	not authn.principal with input as question
	authn.deny_reasons == {tenant} with input as question
}

test_a_service_account_without_a_namespace_has_no_principal[name] if {
	some name, namespace in {"null": null, "a list": ["team-a"], "empty": ""}
	question := of_account(object.union(account, {"namespace": namespace}))
	not authn.principal with input as question
	"claim namespace: must be a name" in authn.deny_reasons with input as question
}

test_claims_that_only_a_cluster_makes_mean_nothing_from_others if {
	authn.principal == object.union(bare, {"id": account.sub}) with input as verified(account)
}

test_certificates_are_mapped_the_same_way if {
	authn.principal == bare with input as object.union(verified(named), {"method": "mtls"})
}

bound(claims) := verified(object.union(named, {"cnf": claims}))

presenting(thumbprint, claims) := object.union(bound(claims), {"peer": {"x5t#S256": thumbprint}})

test_a_token_that_is_bound_to_a_certificate_needs_it if {
	unbound := {"claim cnf: bound to a certificate that was not presented"}
	authn.principal == bare with input as presenting("abc", {"x5t#S256": "abc"})
	authn.deny_reasons == unbound with input as presenting("abd", {"x5t#S256": "abc"})
	authn.deny_reasons == unbound with input as bound({"x5t#S256": "abc"})
	authn.deny_reasons == unbound with input as bound({"x5t#S256": null})
	authn.deny_reasons == unbound with input as presenting("abc", {"x5t#S256": ["abc"]})
}

test_a_token_that_is_bound_otherwise_is_not_about_certificates if {
	authn.principal == bare with input as bound({"jkt": "abc"})
	authn.principal == bare with input as bound("abc")
}

test_no_principal_by_an_unknown_method if {
	not authn.principal with input as object.union(verified(named), {"method": "cookie"})
	not authn.principal with input as json.remove(verified(named), ["method"])
	authn.deny_reasons == {"method: is none that is known"} with input as json.remove(verified(named), ["method"])
}

tenants := {"acme": {"suspended": false, "admins": []}, "globex": {"suspended": true, "admins": []}}

test_a_suspended_tenant_has_no_principals if {
	question := verified(object.union(named, {"tenant": "globex"}))
	not authn.principal with input as question with data.regate.tenants as tenants
	authn.deny_reasons == {"tenant is suspended"} with input as question with data.regate.tenants as tenants
	authn.principal == bare with input as verified(named) with data.regate.tenants as tenants
}

test_a_custom_rule_may_deny if {
	not authn.principal with input as verified(named) with data.regate.custom.authn.deny as true
	authn.deny_reasons == {"denied by a custom rule"} with input as verified(named) with data.regate.custom.authn.deny as true
}

test_a_custom_rule_may_make_attributes if {
	attributed := object.union(bare, {"attrs": {"region": "eu"}})
	authn.principal == attributed with input as verified(named) with data.regate.custom.authn.attrs as {"region": "eu"}
	authn.principal == bare with input as verified(named) with data.regate.custom.authn.attrs as ["eu"]
}
