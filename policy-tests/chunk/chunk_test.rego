package regate.chunk_test

import data.regate.chunk
import data.regate_fixtures as given

decided(principal, changes) := given.asked("chunk.read", principal, {
	"store": given.store,
	"chunk": object.union(given.chunk, changes),
})

holding(changes) := object.union(given.ann, changes)

cases := {
	"shared with her team": [given.ann, {}, set()],
	"shared with nobody she is": [given.ann, given.unshared, {"not_shared_with_principal"}],
	"a team of the same name as a role": [given.ann, object.union(given.unshared, {"roles": ["eng"]}), {"not_shared_with_principal"}],
	"visible to the tenant": [given.eve, {"visibility": "tenant"}, set()],
	"private, though it lists her team": [given.ann, {"visibility": "private"}, {"not_shared_with_principal"}],
	"of an unknown visibility": [given.ann, {"visibility": "public"}, {"not_shared_with_principal"}],
	"at her clearance": [given.ann, {"level": 2}, set()],
	"above her clearance": [given.ann, {"level": 3}, {"level_above_clearance"}],
	"above her clearance and visible to the tenant": [given.ann, {"level": 3, "visibility": "tenant"}, {"level_above_clearance"}],
	"her own, private and above her clearance": [given.ann, {"owner": "ann", "visibility": "private", "level": 9}, set()],
	"of another tenant, whatever is held": [given.mallory, {"visibility": "tenant"}, {"other_tenant"}],
	"of another tenant's user of the same name": [given.mallory, {"owner": "ann"}, {"other_tenant"}],
	"under a label she may not see": [given.ann, {"labels": ["x", "hr-only"]}, {"label_restricted: hr-only"}],
	"her own, under such a label": [given.ann, {"owner": "ann", "labels": ["hr-only"]}, {"label_restricted: hr-only"}],
	"under a label that her role lifts": [holding({"roles": ["hr"]}), {"labels": ["hr-only"]}, set()],
	"under two labels of which one is lifted": [holding({"roles": ["hr"]}), {"labels": ["hr-only", "board"]}, {"label_restricted: board"}],
	"under a label that restricts nobody": [given.ann, {"labels": ["x"]}, set()],
	"on legal hold": [given.ann, {"legal_hold": true}, {"legal_hold"}],
	"her own, on legal hold": [given.ann, {"owner": "ann", "legal_hold": true}, {"legal_hold"}],
	"on legal hold, for the lawyers": [holding({"roles": ["legal"]}), {"legal_hold": true}, set()],
	"embargoed until the next second": [given.ann, {"embargo_until": 1001}, {"embargo"}],
	"embargoed until now": [given.ann, {"embargo_until": 1000}, set()],
	"her own, embargoed": [given.ann, {"owner": "ann", "embargo_until": 1001}, {"embargo"}],
}

test_there_are_cases if {
	count(cases) == 23
	count(given.matches) == 4
}

test_case[name] if {
	some name, [principal, changes, reasons] in cases
	question := decided(principal, changes)
	allowed := chunk.allow with input as question with data.regate.deny_labels as given.deny_labels
	found := chunk.deny_reasons with input as question with data.regate.deny_labels as given.deny_labels
	found == reasons
	given.agrees(allowed, reasons)
}

test_one_match_of_any_kind_is_enough[name] if {
	some name, [carried, held] in given.matches
	chunk.allow with input as decided(object.union(given.eve, held), object.union(given.unshared, carried))
	not chunk.allow with input as decided(given.eve, object.union(given.unshared, carried))
}

# Whatever is missing, nothing is allowed that would not have been: not the caller's own, nor what the whole tenant sees.
needed := {
	"action", "now", "principal", "principal/tenant", "principal/clearance", "chunk", "chunk/tenant", "chunk/level", "chunk/visibility",
	"chunk/legal_hold", "chunk/embargo_until",
}

test_nothing_is_allowed_without[path] if {
	some path in needed
	question := json.remove(decided(given.eve, {"visibility": "tenant"}), [path])
	chunk.allow == false with input as question
	count(chunk.deny_reasons) > 0 with input as question
}

test_a_caller_without_roles_is_restricted_by_every_label if {
	question := json.remove(decided(given.ann, {"labels": ["hr-only"]}), ["principal/roles"])
	chunk.deny_reasons == {"label_restricted: hr-only"} with input as question with data.regate.deny_labels as given.deny_labels
}

test_only_reading_is_decided_here if {
	question := object.union(decided(given.ann, {}), {"action": "chunk.write"})
	not chunk.allow with input as question
	chunk.deny_reasons == {"unknown_action"} with input as question
}

test_an_empty_question_is_denied if {
	chunk.allow == false with input as {}
	count(chunk.deny_reasons) > 0 with input as {}
}

test_the_shipped_label_restricts if {
	not chunk.allow with input as decided(given.ann, {"labels": ["hr-only"]})
	chunk.allow with input as decided(holding({"roles": ["hr"]}), {"labels": ["hr-only"]})
}

custom_cases := {
	"a grant that is a set": [given.eve, {}, false, set(), {"not_shared_with_principal"}],
	"a denial that is a set": [given.ann, {}, set(), false, {"denied_by_custom_rule"}],
	"a denial of what her team shares": [given.ann, {}, true, false, {"denied_by_custom_rule"}],
	"a denial of her own": [given.ann, {"owner": "ann"}, true, false, {"denied_by_custom_rule"}],
	"a grant of a private chunk": [given.eve, {"visibility": "private"}, false, true, set()],
	"a grant up to her clearance": [given.eve, {"level": 2}, false, true, set()],
	"a grant above her clearance": [given.eve, {"level": 3}, false, true, {"level_above_clearance"}],
	"a grant of another tenant's": [given.mallory, {}, false, true, {"other_tenant"}],
	"a grant under a label": [given.eve, {"labels": ["hr-only"]}, false, true, {"label_restricted: hr-only"}],
	"a grant on legal hold": [given.eve, {"legal_hold": true}, false, true, {"legal_hold"}],
	"a grant under embargo": [given.eve, {"embargo_until": 1001}, false, true, {"embargo"}],
	"a grant and a denial": [given.eve, {}, true, true, {"denied_by_custom_rule"}],
}

test_there_are_custom_cases if count(custom_cases) == 12

test_custom_rules[name] if {
	some name, [principal, changes, deny, grant, reasons] in custom_cases
	question := decided(principal, changes)
	allowed := chunk.allow with input as question
		with data.regate.custom.chunk.deny as deny
		with data.regate.custom.chunk.grant as grant
	found := chunk.deny_reasons with input as question
		with data.regate.custom.chunk.deny as deny
		with data.regate.custom.chunk.grant as grant
	found == reasons
	given.agrees(allowed, reasons)
}
