package regate.file_test

import data.regate.file
import data.regate_fixtures as given

decided(action, principal, changes) := given.asked(action, principal, {"file": object.union(given.file, changes)})

reading := ["file.list", "file.read"]

deleting := ["file.delete"]

admin := object.union(given.eve, {"roles": ["store_admin"]})

unshared := {"not_shared_with_principal"}

undeletable := {"neither_owner_nor_store_admin"}

cases := {
	"reading what her team shares": [reading, given.ann, {}, set()],
	"reading without a match": [reading, given.eve, {}, unshared],
	"reading above her clearance": [reading, given.ann, {"level": 3}, unshared],
	"reading what the tenant sees": [reading, given.eve, {"visibility": "tenant"}, set()],
	"reading a private file of her team": [reading, given.ann, {"visibility": "private"}, unshared],
	"reading her own": [reading, given.ann, {"owner": "ann", "visibility": "private", "level": 9}, set()],
	"reading another tenant's": [reading, given.mallory, {"visibility": "tenant"}, unshared],
	"reading a namesake's": [reading, object.union(given.eve, {"id": "bob", "tenant": "globex"}), {"visibility": "private"}, unshared],
	"reading under a restricting label": [reading, given.ann, {"labels": ["hr-only"]}, {"label_restricted: hr-only"}],
	"reading her own under a restricting label": [reading, given.ann, {"owner": "ann", "labels": ["hr-only"]}, {"label_restricted: hr-only"}],
	"reading under a label that restricts nobody": [reading, given.ann, {"labels": ["x"]}, set()],
	"deleting her own under a restricting label": [deleting, given.ann, {"owner": "ann", "labels": ["hr-only"]}, set()],
	"deleting her own": [deleting, given.ann, {"owner": "ann"}, set()],
	"deleting what she matches": [deleting, given.ann, {}, undeletable],
	"deleting as the tenant's store admin": [deleting, admin, {"visibility": "private"}, set()],
	"deleting as another tenant's store admin": [deleting, given.mallory, {}, undeletable],
	"deleting a namesake's": [deleting, object.union(given.ann, {"tenant": "globex"}), {"owner": "ann"}, undeletable],
}

test_there_are_cases if {
	count(cases) == 17
	count(creations) == 4
	count(given.matches) == 4
	count(needed) == 5
}

test_case[sprintf("%s (%s)", [name, action])] if {
	some name, [actions, principal, changes, reasons] in cases
	some action in actions
	question := decided(action, principal, changes)
	allowed := file.allow with input as question with data.regate.deny_labels as given.deny_labels
	found := file.deny_reasons with input as question with data.regate.deny_labels as given.deny_labels
	found == reasons
	given.agrees(allowed, reasons)
}

test_one_match_of_any_kind_is_enough[name] if {
	some name, [carried, held] in given.matches
	file.allow with input as decided("file.read", object.union(given.eve, held), object.union(given.unshared, carried))
	not file.allow with input as decided("file.read", given.eve, object.union(given.unshared, carried))
}

needed := {"action", "principal", "principal/tenant", "file", "file/tenant"}

test_nothing_is_allowed_without[sprintf("%s (%s)", [path, action])] if {
	some action in array.concat(reading, deleting)
	some path in needed
	question := json.remove(decided(action, given.ann, {"owner": "ann"}), [path])
	file.allow == false with input as question
	count(file.deny_reasons) > 0 with input as question
}

creation(principal, requested) := given.asked("file.create", principal, {
	"id": "file_2", "filename": "a.md", "purpose": "assistants",
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
	allowed := file.allow with input as question
	found := file.deny_reasons with input as question
	found == reasons
	given.agrees(allowed, reasons)
	stamped := [stamp | stamp := file.stamp with input as question]
	stamped == [object.union(defaults, changes) | changes != null]
}

test_nobody_creates if {
	question := json.remove(creation(given.ann, {}), ["principal/id"])
	not file.allow with input as question
	not file.stamp with input as question
	"caller_not_identified" in file.deny_reasons with input as question
}

test_nothing_need_be_requested if {
	question := json.remove(creation(given.ann, {}), ["requested"])
	file.stamp == defaults with input as question
}

test_only_a_creation_is_stamped if {
	question := decided("file.read", given.ann, {"owner": "ann"})
	file.allow with input as question
	not file.stamp with input as question
}

upload(principal) := given.asked("file.upload", principal, {})

file_limits := {
	"default": {"max_bytes": 100, "max_files": 3, "max_total_bytes": 200},
	"tenants": {"acme": {"max_files": 5}},
	"roles": {"archivist": {"max_total_bytes": 9000}},
}

test_an_upload_has_limits if {
	file.allow with input as upload(given.ann) with data.regate.file_limits as file_limits
	file.deny_reasons == set() with input as upload(given.ann) with data.regate.file_limits as file_limits
	file.limits == {"max_bytes": 100, "max_files": 5, "max_total_bytes": 200} with input as upload(given.ann)
		with data.regate.file_limits as file_limits
	archivist := object.union(given.ann, {"roles": ["archivist"]})
	file.limits.max_total_bytes == 9000 with input as upload(archivist) with data.regate.file_limits as file_limits
}

test_as_shipped_all_limits_are_said if {
	object.keys(file.limits) == {"max_bytes", "max_files", "max_total_bytes"} with input as upload(given.ann)
}

test_an_upload_without_one_of_its_limits_is_denied[name] if {
	some name in object.keys(file_limits["default"])
	lacking := json.remove(file_limits, [sprintf("default/%s", [name]), sprintf("tenants/acme/%s", [name])])
	file.allow == false with input as upload(given.ann) with data.regate.file_limits as lacking
	file.deny_reasons == {sprintf("no_limit: %s", [name])} with input as upload(given.ann) with data.regate.file_limits as lacking
	not file.limits with input as upload(given.ann) with data.regate.file_limits as lacking
}

test_nobody_uploads if {
	question := json.remove(upload(given.ann), ["principal/id"])
	file.allow == false with input as question
	file.deny_reasons == {"caller_not_identified"} with input as question
	not file.limits with input as question
}

test_a_custom_rule_may_deny_an_upload if {
	file.allow == false with input as upload(given.ann) with data.regate.custom.file.deny as true
	file.deny_reasons == {"denied_by_custom_rule"} with input as upload(given.ann) with data.regate.custom.file.deny as true
	not file.limits with input as upload(given.ann) with data.regate.custom.file.deny as true
}

test_only_an_upload_has_limits if {
	file.allow with input as creation(given.ann, {})
	not file.limits with input as creation(given.ann, {})
}

test_limits_matter_to_an_upload_only if {
	file.allow with input as creation(given.ann, {}) with data.regate.file_limits as {}
	file.deny_reasons == set() with input as creation(given.ann, {}) with data.regate.file_limits as {}
}

# Whatever belongs to another action gives no reason.
test_what_is_requested_matters_to_a_creation_only if {
	question := object.union(decided("file.read", object.union(given.ann, {"id": ""}), {}), {"requested": {"teams": ["ops"]}})
	file.allow with input as question
	file.deny_reasons == set() with input as question
}

test_an_unknown_action_is_denied if {
	question := decided("file.own", given.ann, {"owner": "ann"})
	file.allow == false with input as question
	file.deny_reasons == {"unknown_action"} with input as question
}

custom_cases := {
	"a grant that is a set": [reading, given.eve, {}, false, set(), unshared],
	"a denial that is a set": [reading, given.ann, {}, set(), false, {"denied_by_custom_rule"}],
	"a denial of reading her own": [reading, given.ann, {"owner": "ann"}, true, false, {"denied_by_custom_rule"}],
	"a denial of deleting her own": [deleting, given.ann, {"owner": "ann"}, true, false, {"denied_by_custom_rule"}],
	"a grant of reading a private file": [reading, given.eve, {"visibility": "private"}, false, true, set()],
	"a grant of reading above her clearance": [reading, given.eve, {"level": 3}, false, true, unshared],
	"a grant of reading another tenant's": [reading, given.mallory, {}, false, true, unshared],
	"a grant of reading under a label": [reading, given.eve, {"labels": ["hr-only"]}, false, true, {"label_restricted: hr-only"}],
	"a grant of reading, which is none of deleting": [deleting, given.eve, {}, false, true, undeletable],
}

test_there_are_custom_cases if count(custom_cases) == 9

test_custom_rules[sprintf("%s (%s)", [name, action])] if {
	some name, [actions, principal, changes, deny, grant, reasons] in custom_cases
	some action in actions
	question := decided(action, principal, changes)
	allowed := file.allow with input as question
		with data.regate.custom.file.deny as deny
		with data.regate.custom.file.grant as grant
	found := file.deny_reasons with input as question
		with data.regate.custom.file.deny as deny
		with data.regate.custom.file.grant as grant
	found == reasons
	given.agrees(allowed, reasons)
}

test_a_custom_rule_may_deny_creating if {
	question := creation(given.ann, {})
	not file.allow with input as question with data.regate.custom.file.deny as true
	not file.stamp with input as question with data.regate.custom.file.deny as true
	file.deny_reasons == {"denied_by_custom_rule"} with input as question with data.regate.custom.file.deny as true
}

test_custom_fields_are_added_and_change_none if {
	question := creation(given.ann, {})
	further := {"region": "eu", "tenant": "globex", "owner": "bob", "level": 9, "teams": ["x"]}
	file.stamp == object.union(defaults, {"region": "eu"}) with input as question with data.regate.custom.file.stamp as further
	file.stamp == defaults with input as question with data.regate.custom.file.stamp as "eu"
}
