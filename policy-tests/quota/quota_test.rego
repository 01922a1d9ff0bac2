package regate.quota_test

import data.regate.quota
import data.regate_fixtures as given

asked_for(principal) := given.asked("quota.limits", principal, {"request": {
	"method": "POST", "path": "/v1/responses", "model": "small", "stream": false, "tool_types": [],
}})

default_limits := {"rpm": 10, "tpm": 1000, "max_turns": 4, "max_tool_calls": 8, "max_chunks": 20, "max_output_tokens": 100}

quotas := {
	"default": default_limits,
	"tenants": {"acme": {"rpm": 20, "max_turns": 0}},
	"roles": {"batch": {"rpm": 5, "tpm": 9000}, "boss": {"rpm": 50}},
}

holding(principal, roles) := object.union(principal, {"roles": roles})

cases := {
	"nothing of their own": [holding(given.mallory, []), {}],
	"a tenant": [holding(given.ann, []), {"rpm": 20, "max_turns": 0}],
	"a role besides the tenant": [holding(given.ann, ["batch"]), {"rpm": 5, "tpm": 9000, "max_turns": 0}],
	"two roles of which the most counts": [holding(given.ann, ["batch", "boss"]), {"rpm": 50, "tpm": 9000, "max_turns": 0}],
	"a role that is not named": [holding(given.mallory, ["editor"]), {}],
	"roles that are no list": [holding(given.mallory, "batch"), {}],
}

test_there_are_cases if {
	count(cases) == 6
	count(bad) == 4
	count(needed) == 4
}

test_case[name] if {
	some name, [principal, changes] in cases
	quota.limits == object.union(default_limits, changes) with input as asked_for(principal) with data.regate.quotas as quotas
	quota.deny_reasons == set() with input as asked_for(principal) with data.regate.quotas as quotas
}

needed := {"action", "principal", "principal/id", "principal/tenant"}

test_no_limits_without[path] if {
	some path in needed
	question := json.remove(asked_for(given.ann), [path])
	not quota.limits with input as question with data.regate.quotas as quotas
	count(quota.deny_reasons) > 0 with input as question with data.regate.quotas as quotas
}

bad := {"a negative limit": -1, "half a limit": 0.5, "a limit as text": "9", "a limit that is null": null}

test_no_limits_with[name] if {
	some name, limit in bad
	wrong := object.union(quotas, {"tenants": {"acme": {"rpm": limit}}})
	not quota.limits with input as asked_for(given.ann) with data.regate.quotas as wrong
	quota.deny_reasons == {"no_limit: rpm"} with input as asked_for(given.ann) with data.regate.quotas as wrong
}

test_a_limit_that_is_not_said_is_none_at_all if {
	lacking := json.remove(quotas, ["default/tpm"])
	not quota.limits with input as asked_for(given.ann) with data.regate.quotas as lacking
	quota.deny_reasons == {"no_limit: tpm"} with input as asked_for(given.ann) with data.regate.quotas as lacking
	not quota.limits with input as asked_for(given.ann) with data.regate.quotas as {}
	count(quota.deny_reasons) == 6 with input as asked_for(given.ann) with data.regate.quotas as {}
}

test_an_unknown_action_has_no_limits if {
	question := object.union(asked_for(given.ann), {"action": "quota.reset"})
	not quota.limits with input as question
	quota.deny_reasons == {"unknown_action"} with input as question
}

test_as_shipped_all_limits_are_said if {
	object.keys(quota.limits) == object.keys(default_limits) with input as asked_for(given.ann)
}

scoped := {
	"persons": {
		"default": {"concurrent": 2},
		"tenants": {"acme": {"tokens_per_day": 500}},
		"roles": {"batch": {"concurrent": 9}, "boss": {"concurrent": 8}},
	},
	"roles": {"batch": {"tokens_per_month": 7000}},
	"tenants": {"acme": {"rpm": 30, "cost_per_month": 100}},
	"models": {"small": {"concurrent": 4}},
}

of_person(limits) := {"scope": "person", "limits": limits}

of_model := {"scope": "model", "limits": {"concurrent": 4}}

of_tenant := {"scope": "tenant", "limits": {"rpm": 30, "cost_per_month": 100}}

of_role := {"scope": "role", "name": "batch", "limits": {"tokens_per_month": 7000}}

scoped_cases := {
	"nothing of their own": [holding(given.mallory, []), {of_person({"concurrent": 2}), of_model}],
	"a tenant": [holding(given.ann, []), {of_person({"concurrent": 2, "tokens_per_day": 500}), of_model, of_tenant}],
	"two roles": [
		holding(given.ann, ["batch", "boss"]),
		{of_person({"concurrent": 9, "tokens_per_day": 500}), of_model, of_tenant, of_role},
	],
}

test_there_are_scoped_cases if count(scoped_cases) == 3

test_scoped_case[name] if {
	some name, [principal, expected] in scoped_cases
	found := quota.limits with input as asked_for(principal) with data.regate.scoped_quotas as scoped
	{scope | some scope in found.scopes} == expected
	count(found.scopes) == count(expected)
}

test_a_scoped_limit_that_is_no_number_is_said_as_it_is_so_that_it_is_refused if {
	wrong := json.patch(scoped, [{"op": "replace", "path": "persons/default/concurrent", "value": "x"}])
	found := quota.limits with input as asked_for(given.mallory) with data.regate.scoped_quotas as wrong
	of_person({"concurrent": "x"}) in found.scopes
}

test_a_model_that_has_a_price_is_said_with_it if {
	prices := {"small": {"input": 0.5, "output": 2}}
	found := quota.limits with input as asked_for(given.ann) with data.regate.model_prices as prices
	found.price == {"input": 0.5, "output": 2}
}

test_as_shipped_nothing_but_the_six_is_said if {
	object.keys(quota.limits) == object.keys(default_limits) with input as asked_for(given.mallory)
}

test_there_are_no_limits_without_the_scoped_ones if {
	not quota.limits with input as asked_for(given.ann) with data.regate.scoped_quotas as false
	quota.deny_reasons == {"no_scoped_quotas"} with input as asked_for(given.ann) with data.regate.scoped_quotas as false
}

test_there_are_no_limits_without_the_prices if {
	not quota.limits with input as asked_for(given.ann) with data.regate.model_prices as false
	quota.deny_reasons == {"no_model_prices"} with input as asked_for(given.ann) with data.regate.model_prices as false
}

storing(principal) := object.union(asked_for(principal), {"action": "quota.storage"})

storage_limits := {
	"default": {"max_bytes": 100},
	"tenants": {"acme": {"max_bytes": 200}},
	"roles": {"batch": {"max_bytes": 300}},
}

storage_cases := {
	"nothing of their own": [holding(given.mallory, []), 100],
	"a tenant": [holding(given.ann, []), 200],
	"a role": [holding(given.ann, ["batch"]), 300],
}

test_there_are_storage_cases if count(storage_cases) == 3

test_storage_case[name] if {
	some name, [principal, most] in storage_cases
	quota.storage == {"max_bytes": most} with input as storing(principal) with data.regate.storage_limits as storage_limits
}

test_nothing_is_stored_without[path] if {
	some path in needed
	question := json.remove(storing(given.ann), [path])
	not quota.storage with input as question with data.regate.storage_limits as storage_limits
}

test_nothing_is_stored_with[name] if {
	some name, limit in bad
	wrong := {"default": {"max_bytes": limit}, "tenants": {}, "roles": {}}
	not quota.storage with input as storing(given.ann) with data.regate.storage_limits as wrong
}

test_nothing_is_stored_where_nothing_is_said if {
	not quota.storage with input as storing(given.ann) with data.regate.storage_limits as {}
}

test_storage_is_asked_for_by_its_own_action if {
	not quota.storage with input as asked_for(given.ann) with data.regate.storage_limits as storage_limits
}

test_as_shipped_storage_is_bounded if {
	quota.storage.max_bytes > 0 with input as storing(given.ann)
}
