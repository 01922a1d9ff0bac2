package regate.history_test

import data.regate.history
import data.regate_fixtures as given

reading := ["conversation.read", "history.reuse", "response.list", "response.read"]

changing := ["conversation.create", "conversation.delete", "conversation.update", "response.cancel", "response.delete"]

actions := array.concat(reading, changing)

decided(action, principal, changes) := given.asked(action, principal, {"item": object.union(given.item, changes)})

cases := {
	"her own": [given.ann, {}, set()],
	"a colleague's": [given.ann, {"owner": "bob"}, {"other_owner"}],
	"a namesake's in another tenant": [given.mallory, {}, {"other_owner"}],
	"made from what is now restricted for her": [given.ann, {"labels": ["x", "hr-only"]}, {"label_restricted: hr-only"}],
	"made from what her role lifts": [object.union(given.ann, {"roles": ["hr"]}), {"labels": ["hr-only"]}, set()],
}

test_there_are_cases if {
	count(cases) == 5
	count(needed) == 7
	count(actions) == 9
}

test_case[sprintf("%s (%s)", [name, action])] if {
	some action in actions
	some name, [principal, changes, reasons] in cases
	question := decided(action, principal, changes)
	allowed := history.allow with input as question with data.regate.deny_labels as given.deny_labels
	found := history.deny_reasons with input as question with data.regate.deny_labels as given.deny_labels
	found == reasons
	given.agrees(allowed, reasons)
}

needed := {"action", "principal", "principal/id", "principal/tenant", "item", "item/tenant", "item/owner"}

test_nothing_is_allowed_without[sprintf("%s (%s)", [path, action])] if {
	some action in actions
	some path in needed
	question := json.remove(decided(action, given.ann, {}), [path])
	history.allow == false with input as question
	count(history.deny_reasons) > 0 with input as question
}

test_an_unknown_action_is_denied if {
	question := decided("response.publish", given.ann, {})
	history.allow == false with input as question
	history.deny_reasons == {"unknown_action"} with input as question
}

test_what_is_denied_is_withheld if history.on_deny == "redact" with input as decided("history.reuse", given.ann, {"owner": "bob"})

custom_cases := {
	"a grant that is a set": [actions, given.eve, {}, false, set(), {"other_owner"}],
	"a denial that is a set": [actions, given.ann, {}, set(), false, {"denied_by_custom_rule"}],
	"a denial of her own": [actions, given.ann, {}, true, false, {"denied_by_custom_rule"}],
	"a grant of a colleague's": [reading, given.eve, {}, false, true, set()],
	"a grant that is none of changing": [changing, given.eve, {}, false, true, {"other_owner"}],
	"a grant of another tenant's": [actions, given.mallory, {}, false, true, {"other_owner"}],
	"a grant under a label": [["response.read"], given.eve, {"labels": ["hr-only"]}, false, true, {"label_restricted: hr-only"}],
}

test_there_are_custom_cases if count(custom_cases) == 7

test_custom_rules[sprintf("%s (%s)", [name, action])] if {
	some name, [asked, principal, changes, deny, grant, reasons] in custom_cases
	some action in asked
	question := decided(action, principal, changes)
	allowed := history.allow with input as question
		with data.regate.custom.history.deny as deny
		with data.regate.custom.history.grant as grant
	found := history.deny_reasons with input as question
		with data.regate.custom.history.deny as deny
		with data.regate.custom.history.grant as grant
	found == reasons
	given.agrees(allowed, reasons)
}

test_items_rest_on_everything_unless_a_custom_rule_says_otherwise if {
	history.rests_on == "everything"
	history.rests_on == "cited" with data.regate.custom.history.rests_on as "cited"
}
