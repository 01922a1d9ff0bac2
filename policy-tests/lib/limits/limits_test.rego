package regate.lib.limits_test

import data.regate.lib.limits
import data.regate_fixtures as given

table := {
	"default": {"a": 10, "b": 1000},
	"tenants": {"acme": {"a": 20}},
	"roles": {"batch": {"a": 5, "b": 9000}, "boss": {"a": 50}},
}

names := {"a", "b"}

holding(principal, roles) := object.union(principal, {"roles": roles})

cases := {
	"nothing of their own": [holding(given.mallory, []), {"a": 10, "b": 1000}],
	"a tenant": [holding(given.ann, []), {"a": 20, "b": 1000}],
	"a role besides the tenant": [holding(given.ann, ["batch"]), {"a": 5, "b": 9000}],
	"two roles of which the most counts": [holding(given.ann, ["batch", "boss"]), {"a": 50, "b": 9000}],
	"a role that is not named": [holding(given.mallory, ["editor"]), {"a": 10, "b": 1000}],
	"roles that are no list": [holding(given.mallory, "batch"), {"a": 10, "b": 1000}],
	"no tenant": [json.remove(holding(given.ann, []), ["tenant"]), {}],
	"no roles": [json.remove(given.ann, ["roles"]), {"a": 20, "b": 1000}],
}

test_there_are_cases if {
	count(cases) == 8
	count(bad) == 5
}

test_case[name] if {
	some name, [principal, expected] in cases
	limits.said(table, names, principal) == expected
}

bad := {"a negative limit": -1, "half a limit": 0.5, "a limit as text": "9", "a limit that is null": null, "a list of limits": [1]}

test_what_is_no_whole_number_is_not_said[name] if {
	some name, limit in bad
	limits.said(object.union(table, {"tenants": {"acme": {"a": limit}}}), names, holding(given.ann, [])) == {"b": 1000}
}

test_nothing_is_nothing_at_all if {
	limits.said(object.union(table, {"tenants": {"acme": {"a": 0}}}), {"a"}, holding(given.ann, [])) == {"a": 0}
}

test_what_the_default_does_not_say_is_not_said if {
	lacking := json.remove(table, ["default/a"])
	limits.said(lacking, names, holding(given.ann, [])) == {"b": 1000}
	limits.said({}, names, holding(given.ann, [])) == {}
}

optional := {"default": {"a": 1}, "tenants": {"acme": {"b": 2}}, "roles": {"batch": {"a": 5, "c": 3}, "boss": {"a": 9}}}

given_cases := {
	"nothing of their own": [holding(given.mallory, []), {"a": 1}],
	"a tenant": [holding(given.ann, []), {"a": 1, "b": 2}],
	"roles": [holding(given.ann, ["batch", "boss"]), {"a": 9, "b": 2, "c": 3}],
	"roles that are no list": [holding(given.ann, "batch"), {"a": 1, "b": 2}],
}

test_there_are_given_cases if count(given_cases) == 4

test_given_case[name] if {
	some name, [principal, expected] in given_cases
	limits.given(optional, principal) == expected
}
