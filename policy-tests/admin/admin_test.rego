package regate.admin_test

import data.regate.admin
import data.regate_fixtures as given

actions := ["policy.explain", "audit.read", "prompt.manage"]

asked_for(action, principal, tenant) := given.asked(action, principal, {"operation": {"tenant": tenant}})

tenants := {"acme": {"suspended": false, "admins": ["ann"]}}

policy_admin := object.union(given.eve, {"roles": ["policy_admin"]})

outsider := object.union(given.mallory, {"roles": ["policy_admin"]})

cases := {
	"the tenant's administrator": [given.ann, "acme", set()],
	"a policy_admin": [policy_admin, "acme", set()],
	"another of the tenant": [given.eve, "acme", {"not_an_administrator"}],
	"a namesake in another tenant": [given.mallory, "acme", {"not_an_administrator", "other_tenant"}],
	"another tenant's policy_admin": [outsider, "acme", {"other_tenant"}],
	"the tenant's administrator, of another tenant": [given.ann, "globex", {"other_tenant"}],
	"a policy_admin without a name": [object.union(policy_admin, {"id": ""}), "acme", {"caller_not_identified"}],
}

test_there_are_cases if {
	count(cases) == 7
	count(needed) == 6
}

test_case[sprintf("%s (%s)", [name, action])] if {
	some action in actions
	some name, [principal, tenant, reasons] in cases
	question := asked_for(action, principal, tenant)
	allowed := admin.allow with input as question with data.regate.tenants as tenants
	found := admin.deny_reasons with input as question with data.regate.tenants as tenants
	found == reasons
	given.agrees(allowed, reasons)
}

needed := {"action", "principal", "principal/id", "principal/tenant", "operation", "operation/tenant"}

test_nothing_is_allowed_without[path] if {
	some path in needed
	question := json.remove(asked_for("audit.read", policy_admin, "acme"), [path])
	admin.allow == false with input as question
	count(admin.deny_reasons) > 0 with input as question
}

test_an_unknown_action_is_denied if {
	question := asked_for("policy.change", policy_admin, "acme")
	admin.allow == false with input as question
	admin.deny_reasons == {"unknown_action"} with input as question
}

test_a_custom_rule_may_deny if {
	question := asked_for("audit.read", policy_admin, "acme")
	admin.allow == false with input as question with data.regate.custom.admin.deny as true
	admin.deny_reasons == {"denied_by_custom_rule"} with input as question with data.regate.custom.admin.deny as true
}

test_as_shipped_nobody_is_an_administrator_by_name if {
	not admin.allow with input as asked_for("audit.read", given.ann, "acme")
}
