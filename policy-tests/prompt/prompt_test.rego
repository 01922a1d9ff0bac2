package regate.prompt_test

import data.regate.prompt
import data.regate_fixtures as given

decided(action, principal, changes) := given.asked(action, principal, {"prompt": object.union(given.prompt, changes)})

reading := ["prompt.list", "prompt.read", "prompt.use"]

changing := ["prompt.update", "prompt.delete"]

admin := object.union(given.eve, {"roles": ["policy_admin"]})

outsider := object.union(given.mallory, {"roles": ["policy_admin"]})

unshared := {"not_shared_with_principal"}

unchangeable := {"neither_owner_nor_administrator"}

cases := {
	"reading what her team shares": [reading, given.ann, {}, set()],
	"reading without a match": [reading, given.eve, {}, unshared],
	"reading above her clearance": [reading, given.ann, {"level": 3}, unshared],
	"reading what the tenant sees": [reading, given.eve, {"visibility": "tenant"}, set()],
	"reading a private prompt of her team": [reading, given.ann, {"visibility": "private"}, unshared],
	"reading her own": [reading, given.ann, {"owner": "ann", "visibility": "private", "level": 9}, set()],
	"reading another tenant's": [reading, given.mallory, {"visibility": "tenant"}, unshared],
	"reading a namesake's": [reading, object.union(given.eve, {"id": "bob", "tenant": "globex"}), {"visibility": "private"}, unshared],
	"reading under a restricting label": [reading, given.ann, {"labels": ["hr-only"]}, {"label_restricted: hr-only"}],
	"reading her own under a restricting label": [reading, given.ann, {"owner": "ann", "labels": ["hr-only"]}, {"label_restricted: hr-only"}],
	"reading under a label that restricts nobody": [reading, given.ann, {"labels": ["x"]}, set()],
	"changing her own under a restricting label": [changing, given.ann, {"owner": "ann", "labels": ["hr-only"]}, set()],
	"changing her own": [changing, given.ann, {"owner": "ann"}, set()],
	"changing what she matches": [changing, given.ann, {}, unchangeable],
	"changing as the tenant's policy admin": [changing, admin, {"level": 9}, set()],
	"changing what the tenant sees as its policy admin": [changing, admin, {"visibility": "tenant"}, set()],
	"changing a private draft as policy admin": [changing, admin, {"visibility": "private"}, unchangeable],
	"changing as another tenant's policy admin": [changing, outsider, {}, unchangeable],
	"changing a namesake's": [changing, object.union(given.ann, {"tenant": "globex"}), {"owner": "ann"}, unchangeable],
}

test_there_are_cases if {
	count(cases) == 19
	count(creations) == 4
	count(given.matches) == 4
	count(needed) == 5
}

test_case[sprintf("%s (%s)", [name, action])] if {
	some name, [actions, principal, changes, reasons] in cases
	some action in actions
	question := decided(action, principal, changes)
	allowed := prompt.allow with input as question with data.regate.deny_labels as given.deny_labels
	found := prompt.deny_reasons with input as question with data.regate.deny_labels as given.deny_labels
	found == reasons
	given.agrees(allowed, reasons)
}

test_one_match_of_any_kind_is_enough[name] if {
	some name, [carried, held] in given.matches
	prompt.allow with input as decided("prompt.read", object.union(given.eve, held), object.union(given.unshared, carried))
	not prompt.allow with input as decided("prompt.read", given.eve, object.union(given.unshared, carried))
}

needed := {"action", "principal", "principal/tenant", "prompt", "prompt/tenant"}

test_nothing_is_allowed_without[sprintf("%s (%s)", [path, action])] if {
	some action in array.concat(reading, changing)
	some path in needed
	question := json.remove(decided(action, given.ann, {"owner": "ann"}), [path])
	prompt.allow == false with input as question
	count(prompt.deny_reasons) > 0 with input as question
}

creation(principal, requested) := given.asked("prompt.create", principal, {
	"id": "pmpt_2", "name": "Mine",
	"requested": requested,
})

defaults := {
	"tenant": "acme", "owner": "ann", "visibility": "attributes",
	"teams": ["eng"], "roles": [], "projects": ["apollo"], "namespaces": ["prod"], "level": 0, "labels": [],
}

creations := {
	"nothing requested": [given.ann, {}, set(), {}],
	"level and labels": [given.ann, {"level": 1, "labels": ["b", "a"]}, set(), {"level": 1, "labels": ["a", "b"]}],
	"a team that she is not in": [given.ann, {"teams": ["ops"]}, {"teams: may name only teams that you hold"}, null],
	"what only stores can be": [given.ann, {"share": "all_tenants"}, {"share: cannot be requested"}, null],
}

test_creation[name] if {
	some name, [principal, requested, reasons, changes] in creations
	question := creation(principal, requested)
	allowed := prompt.allow with input as question
	found := prompt.deny_reasons with input as question
	found == reasons
	given.agrees(allowed, reasons)
	stamped := [stamp | stamp := prompt.stamp with input as question]
	stamped == [object.union(defaults, changes) | changes != null]
}

test_nobody_creates if {
	question := json.remove(creation(given.ann, {}), ["principal/id"])
	not prompt.allow with input as question
	not prompt.stamp with input as question
	"caller_not_identified" in prompt.deny_reasons with input as question
}

test_nothing_need_be_requested if {
	question := json.remove(creation(given.ann, {}), ["requested"])
	prompt.stamp == defaults with input as question
}

test_only_a_creation_is_stamped if {
	question := decided("prompt.read", given.ann, {"owner": "ann"})
	prompt.allow with input as question
	not prompt.stamp with input as question
}

# Whatever belongs to another action gives no reason.
test_what_is_requested_matters_to_a_creation_only if {
	question := object.union(decided("prompt.read", object.union(given.ann, {"id": ""}), {}), {"requested": {"teams": ["ops"]}})
	prompt.allow with input as question
	prompt.deny_reasons == set() with input as question
}

test_an_unknown_action_is_denied if {
	question := decided("prompt.own", given.ann, {"owner": "ann"})
	prompt.allow == false with input as question
	prompt.deny_reasons == {"unknown_action"} with input as question
}

custom_cases := {
	"a grant that is a set": [reading, given.eve, {}, false, set(), unshared],
	"a denial that is a set": [reading, given.ann, {}, set(), false, {"denied_by_custom_rule"}],
	"a denial of reading her own": [reading, given.ann, {"owner": "ann"}, true, false, {"denied_by_custom_rule"}],
	"a denial of changing her own": [changing, given.ann, {"owner": "ann"}, true, false, {"denied_by_custom_rule"}],
	"a grant of reading a private prompt": [reading, given.eve, {"visibility": "private"}, false, true, set()],
	"a grant of reading above her clearance": [reading, given.eve, {"level": 3}, false, true, unshared],
	"a grant of reading another tenant's": [reading, given.mallory, {}, false, true, unshared],
	"a grant of reading under a label": [reading, given.eve, {"labels": ["hr-only"]}, false, true, {"label_restricted: hr-only"}],
	"a grant of reading, which is none of changing": [changing, given.eve, {}, false, true, unchangeable],
}

test_there_are_custom_cases if count(custom_cases) == 9

test_custom_rules[sprintf("%s (%s)", [name, action])] if {
	some name, [actions, principal, changes, deny, grant, reasons] in custom_cases
	some action in actions
	question := decided(action, principal, changes)
	allowed := prompt.allow with input as question
		with data.regate.custom.prompt.deny as deny
		with data.regate.custom.prompt.grant as grant
	found := prompt.deny_reasons with input as question
		with data.regate.custom.prompt.deny as deny
		with data.regate.custom.prompt.grant as grant
	found == reasons
	given.agrees(allowed, reasons)
}

test_a_custom_rule_may_deny_creating if {
	question := creation(given.ann, {})
	not prompt.allow with input as question with data.regate.custom.prompt.deny as true
	not prompt.stamp with input as question with data.regate.custom.prompt.deny as true
	prompt.deny_reasons == {"denied_by_custom_rule"} with input as question with data.regate.custom.prompt.deny as true
}

test_custom_fields_are_added_and_change_none if {
	question := creation(given.ann, {})
	further := {"region": "eu", "tenant": "globex", "owner": "bob", "level": 9, "teams": ["x"]}
	prompt.stamp == object.union(defaults, {"region": "eu"}) with input as question with data.regate.custom.prompt.stamp as further
	prompt.stamp == defaults with input as question with data.regate.custom.prompt.stamp as "eu"
}
