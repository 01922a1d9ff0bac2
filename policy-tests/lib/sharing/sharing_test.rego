package regate.lib.sharing_test

import data.regate.lib.sharing
import data.regate_fixtures as given

admin := object.union(given.ann, {"roles": ["store_admin"]})

visibility := "visibility: must be private, attributes or tenant"

level := "level: must be a whole number from 0 to your clearance"

labels := "labels: must be a list of names"

share := "share: must be all_tenants, and needs the role store_admin"

cases := {
	"nothing": [given.ann, {}, set()],
	"all that she holds": [given.ann, {"teams": ["eng"], "roles": ["editor"], "projects": ["apollo"], "namespaces": ["prod"]}, set()],
	"empty lists": [given.ann, {"teams": [], "labels": []}, set()],
	"one team of two": [given.ann, {"teams": ["eng", "ops"]}, {"teams: may name only teams that you hold"}],
	"a role": [given.ann, {"roles": ["hr"]}, {"roles: may name only roles that you hold"}],
	"a project": [given.ann, {"projects": ["gemini"]}, {"projects: may name only projects that you hold"}],
	"a namespace": [given.ann, {"namespaces": ["test"]}, {"namespaces: may name only namespaces that you hold"}],
	"a team as an object": [given.ann, {"teams": {"0": "eng"}}, {"teams: may name only teams that you hold"}],
	"an empty list for a visibility": [given.ann, {"visibility": []}, {visibility}],
	"labels as an object": [given.ann, {"labels": {"0": "x"}}, {labels}],
	"a team as text": [given.ann, {"teams": "eng"}, {"teams: may name only teams that you hold"}],
	"private": [given.ann, {"visibility": "private"}, set()],
	"attributes": [given.ann, {"visibility": "attributes"}, set()],
	"tenant": [given.ann, {"visibility": "tenant"}, set()],
	"the public": [given.ann, {"visibility": "public"}, {visibility}],
	"no level": [given.ann, {"level": 0}, set()],
	"her clearance": [given.ann, {"level": 2}, set()],
	"more than her clearance": [given.ann, {"level": 3}, {level}],
	"less than no level": [given.ann, {"level": -1}, {level}],
	"half a level": [given.ann, {"level": 0.5}, {level}],
	"a level that is true": [given.ann, {"level": true}, {level}],
	"any label": [given.ann, {"labels": ["hr-only"]}, set()],
	"a label without a name": [given.ann, {"labels": ["x", ""]}, {labels}],
	"a label that is no text": [given.ann, {"labels": [1]}, {labels}],
	"labels as text": [given.ann, {"labels": "x"}, {labels}],
	"all tenants": [given.ann, {"share": "all_tenants"}, {share}],
	"all tenants, as store admin": [admin, {"share": "all_tenants"}, set()],
	"other tenants, as store admin": [admin, {"share": "globex"}, {share}],
	"an owner": [given.ann, {"owner": "bob"}, {"owner: cannot be requested"}],
	"two faults": [given.ann, {"level": 3, "visibility": null}, {level, visibility}],
	"text": [given.ann, "teams", {"requested: must be an object"}],
}

test_there_are_cases if {
	count(cases) == 31
	count(shared) == 8
}

test_faults[name] if {
	some name, [principal, requested, faults] in cases
	sharing.faults(requested, principal, sharing.requestable | {"share"}) == faults
}

test_only_what_may_be_requested_here if {
	sharing.faults({"share": "all_tenants"}, admin, sharing.requestable) == {"share: cannot be requested"}
}

test_a_principal_that_holds_nothing_may_request_nothing if {
	sharing.faults({"teams": ["eng"]}, {}, sharing.requestable) == {"teams: may name only teams that you hold"}
	sharing.faults({"level": 0}, {}, sharing.requestable) == {level}
}

shared := {
	"nothing": [{}, {"visibility": "attributes", "teams": ["eng"], "roles": [], "projects": ["apollo"], "namespaces": ["prod"]}],
	"attributes": [
		{"visibility": "attributes"},
		{"visibility": "attributes", "teams": ["eng"], "roles": [], "projects": ["apollo"], "namespaces": ["prod"]},
	],
	"tenant": [
		{"visibility": "tenant"},
		{"visibility": "tenant", "teams": ["eng"], "roles": [], "projects": ["apollo"], "namespaces": ["prod"]},
	],
	"private": [{"visibility": "private"}, object.union(given.unshared, {"visibility": "private"})],
	"private with a team": [{"visibility": "private", "teams": ["eng"]}, object.union(given.unshared, {"visibility": "private"})],
	"a role": [{"roles": ["editor"]}, object.union(given.unshared, {"visibility": "attributes", "roles": ["editor"]})],
	"two lists": [
		{"teams": ["eng"], "projects": ["apollo"]},
		object.union(given.unshared, {"visibility": "attributes", "teams": ["eng"], "projects": ["apollo"]}),
	],
	"an empty list": [{"teams": []}, object.union(given.unshared, {"visibility": "attributes"})],
}

test_sharing[name] if {
	some name, [requested, stamped] in shared
	sharing.sharing(requested, given.ann) == stamped
}

test_level_and_labels if {
	sharing.level({}) == 0
	sharing.level({"level": 2}) == 2
	sharing.labels({}) == []
	sharing.labels({"labels": ["b", "a", "b"]}) == ["a", "b"]
}
