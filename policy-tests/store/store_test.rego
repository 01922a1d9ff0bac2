package regate.store_test

import data.regate.store
import data.regate_fixtures as given

decided(action, principal, changes) := given.asked(action, principal, {"store": object.union(given.store, changes)})

reading := ["store.list", "store.read", "store.search"]

adding := ["store.add"]

changing := ["store.update", "store.delete"]

admin := object.union(given.eve, {"roles": ["store_admin"]})

unshared := {"not_shared_with_principal"}

unaddable := {"not_shared_for_adding"}

unchangeable := {"neither_owner_nor_store_admin"}

cases := {
	"reading what her team shares": [reading, given.ann, {}, set()],
	"reading without a match": [reading, given.eve, {}, unshared],
	"reading above her clearance": [reading, given.ann, {"level": 3}, unshared],
	"reading what the tenant sees": [reading, given.eve, {"visibility": "tenant"}, set()],
	"reading what the tenant sees above clearance": [reading, given.eve, {"visibility": "tenant", "level": 3}, unshared],
	"reading a private store of her team": [reading, given.ann, {"visibility": "private"}, unshared],
	"reading her own": [reading, given.ann, {"owner": "ann", "visibility": "private", "level": 9}, set()],
	"reading another tenant's": [reading, given.mallory, {"visibility": "tenant"}, unshared],
	"reading a namesake's": [reading, given.mallory, {"owner": "ann"}, unshared],
	"reading another tenant's shared store": [reading, given.mallory, {"shared": true}, set()],
	"reading under a restricting label": [reading, given.ann, {"labels": ["hr-only"]}, {"label_restricted: hr-only"}],
	"reading her own under a restricting label": [reading, given.ann, {"owner": "ann", "labels": ["hr-only"]}, {"label_restricted: hr-only"}],
	"adding to what her team shares": [adding, given.ann, {}, set()],
	"adding to what her team shares within the tenant": [adding, given.ann, {"visibility": "tenant"}, set()],
	"adding to what only the tenant sees": [adding, given.eve, {"visibility": "tenant"}, unaddable],
	"adding above her clearance": [adding, given.ann, {"level": 3}, unaddable],
	"adding to a private store of her team": [adding, given.ann, {"visibility": "private"}, unaddable],
	"adding to her own": [adding, given.ann, {"owner": "ann", "visibility": "private", "level": 9}, set()],
	"adding to another tenant's": [adding, given.mallory, {}, unaddable],
	"adding to another tenant's shared store": [adding, given.mallory, {"shared": true}, set()],
	"adding under a restricting label": [adding, given.ann, {"labels": ["hr-only"]}, {"label_restricted: hr-only"}],
	"reading under a label that restricts nobody": [reading, given.ann, {"labels": ["x"]}, set()],
	"changing her own under a restricting label": [changing, given.ann, {"owner": "ann", "labels": ["hr-only"]}, set()],
	"changing her own": [changing, given.ann, {"owner": "ann"}, set()],
	"changing what she matches": [changing, given.ann, {}, unchangeable],
	"changing a shared store": [changing, given.ann, {"shared": true}, unchangeable],
	"changing as the tenant's store admin": [changing, admin, {"visibility": "private"}, set()],
	"changing as another tenant's store admin": [changing, given.mallory, {"shared": true}, unchangeable],
	"changing a namesake's": [changing, object.union(given.ann, {"tenant": "globex"}), {"owner": "ann"}, unchangeable],
}

detaching(principal, store, attachment) := given.asked("store.detach", principal, {
	"store": object.union(given.store, store),
	"attachment": object.union(given.chunk, attachment),
})

detachments := {
	"her own file from a store she matches": [detaching(given.ann, {}, {"owner": "ann"}), set()],
	"her own file from another tenant's shared store": [
		detaching(given.mallory, {"shared": true}, {"tenant": given.mallory.tenant, "owner": given.mallory.id}),
		set(),
	],
	"another's file from her own store": [detaching(given.ann, {"owner": "ann"}, {"owner": "ben"}), set()],
	"another's file as store admin": [detaching(admin, {}, {"owner": "ben"}), set()],
	"another's file from a store she matches": [detaching(given.ann, {}, {"owner": "ben"}), unchangeable],
	"a namesake's file from a shared store": [
		detaching(given.mallory, {"shared": true}, {"owner": given.mallory.id}),
		unchangeable,
	],
}

test_detaching[name] if {
	some name, [asked, reasons] in detachments
	allowed := count(reasons) == 0
	store.allow == allowed with input as asked
	store.deny_reasons == reasons with input as asked
}

test_there_are_cases if {
	count(detachments) == 6
	count(cases) == 29
	count(creations) == 9
	count(updates) == 16
	count(given.matches) == 4
	count(needed) == 5
}

test_case[sprintf("%s (%s)", [name, action])] if {
	some name, [actions, principal, changes, reasons] in cases
	some action in actions
	question := decided(action, principal, changes)
	allowed := store.allow with input as question with data.regate.deny_labels as given.deny_labels
	found := store.deny_reasons with input as question with data.regate.deny_labels as given.deny_labels
	found == reasons
	given.agrees(allowed, reasons)
}

test_one_match_of_any_kind_is_enough[sprintf("%s (%s)", [name, action])] if {
	some action in ["store.search", "store.add"]
	some name, [carried, held] in given.matches
	store.allow with input as decided(action, object.union(given.eve, held), object.union(given.unshared, carried))
	not store.allow with input as decided(action, given.eve, object.union(given.unshared, carried))
}

needed := {"action", "principal", "principal/tenant", "store", "store/tenant"}

test_nothing_is_allowed_without[sprintf("%s (%s)", [path, action])] if {
	some action in array.concat(array.concat(reading, adding), changing)
	some path in needed
	question := json.remove(decided(action, given.ann, {"owner": "ann"}), [path])
	store.allow == false with input as question
	count(store.deny_reasons) > 0 with input as question
}

test_nobody_reads_even_a_shared_store if {
	question := json.remove(decided("store.search", given.eve, {"shared": true}), ["principal/id"])
	store.allow == false with input as question
	store.deny_reasons == {"not_shared_with_principal"} with input as question
}

test_an_absent_store_is_denied if {
	question := given.asked("store.search", given.ann, {"store": {"id": ""}})
	store.allow == false with input as question
	store.deny_reasons == {"not_shared_with_principal"} with input as question
}

creation(principal, requested) := given.asked("store.create", principal, {"id": "vs_2", "name": "Mine", "requested": requested})

defaults := {
	"tenant": "acme", "owner": "ann", "shared": false, "visibility": "attributes",
	"teams": ["eng"], "roles": [], "projects": ["apollo"], "namespaces": ["prod"], "level": 0, "labels": [],
}

share_admin := object.union(given.ann, {"roles": ["store_admin"]})

# caller, what is requested, why not, and how the stamp differs from the defaults
creations := {
	"nothing requested": [given.ann, {}, set(), {}],
	"a role that she holds": [given.ann, {"roles": ["editor"]}, set(), {"teams": [], "projects": [], "namespaces": [], "roles": ["editor"]}],
	"a team that she is not in": [given.ann, {"teams": ["ops"]}, {"teams: may name only teams that you hold"}, null],
	"a level and labels": [given.ann, {"level": 2, "labels": ["b", "a"]}, set(), {"level": 2, "labels": ["a", "b"]}],
	"a level above her clearance": [given.ann, {"level": 3}, {"level: must be a whole number from 0 to your clearance"}, null],
	"to share with all tenants": [given.ann, {"share": "all_tenants"}, {"share: must be all_tenants, and needs the role store_admin"}, null],
	"to share with all tenants, as store admin": [share_admin, {"share": "all_tenants"}, set(), {"shared": true}],
	"to keep it private": [given.ann, {"visibility": "private"}, set(), object.union(given.unshared, {"visibility": "private"})],
	"to be another tenant": [given.ann, {"tenant": "globex"}, {"tenant: cannot be requested"}, null],
}

test_creation[name] if {
	some name, [principal, requested, reasons, changes] in creations
	question := creation(principal, requested)
	allowed := store.allow with input as question
	found := store.deny_reasons with input as question
	found == reasons
	given.agrees(allowed, reasons)
	stamped := [stamp | stamp := store.stamp with input as question]
	stamped == [object.union(defaults, changes) | changes != null]
}

updating(principal, store, requested) := given.asked("store.update", principal, {
	"store": object.union(given.store, store),
	"requested": requested,
})

beyond := "level_above_clearance"

# caller, how the store differs, what is requested, why not, and how the stamp differs from the defaults; null where there is none
updates := {
	"nothing": [given.ann, {"owner": "ann"}, {}, set(), null],
	"her team": [given.ann, {"owner": "ann"}, {"teams": ["eng"]}, set(), {"projects": [], "namespaces": []}],
	"a team that she is not in": [given.ann, {"owner": "ann"}, {"teams": ["ops"]}, {"teams: may name only teams that you hold"}, null],
	"privacy": [given.ann, {"owner": "ann"}, {"visibility": "private"}, set(), object.union(given.unshared, {"visibility": "private"})],
	"an end to sharing": [given.ann, {"owner": "ann", "shared": true}, {"visibility": "attributes"}, set(), {}],
	"to share as store admin": [share_admin, {"owner": "ann"}, {"share": "all_tenants"}, set(), {"shared": true}],
	"to share with all tenants": [
		given.ann, {"owner": "ann"}, {"share": "all_tenants"},
		{"share: must be all_tenants, and needs the role store_admin"}, null,
	],
	"a lower level of her own": [given.ann, {"owner": "ann", "level": 9}, {"level": 1}, set(), {"level": 1}],
	"a level above her clearance": [given.ann, {"owner": "ann"}, {"level": 3}, {"level: must be a whole number from 0 to your clearance"}, null],
	"further labels": [given.ann, {"owner": "ann", "labels": ["b", "a"]}, {"labels": ["c", "b"]}, set(), {"labels": ["a", "b", "c"]}],
	"no labels": [given.ann, {"owner": "ann", "labels": ["a"]}, {"labels": []}, set(), {"labels": ["a"]}],
	"another tenant": [given.ann, {"owner": "ann"}, {"tenant": "globex"}, {"tenant: cannot be requested"}, null],
	"another's, as store admin": [
		admin, {"level": 2}, {"teams": ["ops"]}, set(),
		object.union(given.unshared, {"owner": "bob", "teams": ["ops"]}),
	],
	"another's above clearance, as store admin": [admin, {"level": 3}, {"teams": ["ops"]}, {beyond}, null],
	"nothing of another's above clearance, as store admin": [admin, {"level": 3}, {}, set(), null],
	"what she matches": [given.ann, {}, {"visibility": "tenant"}, unchangeable, null],
}

test_sharing_anew[name] if {
	some name, [principal, row, requested, reasons, changes] in updates
	question := updating(principal, row, requested)
	allowed := store.allow with input as question
	found := store.deny_reasons with input as question
	found == reasons
	given.agrees(allowed, reasons)
	stamped := [stamp | stamp := store.stamp with input as question]
	stamped == [object.union(defaults, changes) | changes != null]
}

test_nothing_need_be_requested_of_a_store_that_is_there if {
	question := json.remove(updating(given.ann, {"owner": "ann"}, {}), ["requested"])
	store.allow with input as question
	not store.stamp with input as question
}

test_a_store_above_clearance_is_for_its_owner_and_a_plain_update if {
	plain := json.remove(updating(admin, {"level": 3}, {}), ["requested"])
	store.allow with input as plain
	deleting_it := object.union(updating(admin, {"level": 3}, {"teams": ["eng"]}), {"action": "store.delete"})
	store.allow with input as deleting_it
	store.deny_reasons == set() with input as deleting_it
}

test_custom_fields_of_a_store_that_is_shared_anew_change_none if {
	question := updating(given.ann, {"owner": "ann"}, {"level": 1})
	further := {"region": "eu", "tenant": "globex", "owner": "bob", "level": 9}
	expected := object.union(defaults, {"region": "eu", "level": 1})
	store.stamp == expected with input as question with data.regate.custom.store.stamp as further
	not store.stamp with input as question with data.regate.custom.store.deny as true
}

test_nobody_creates if {
	question := json.remove(creation(given.ann, {}), ["principal/tenant"])
	not store.allow with input as question
	not store.stamp with input as question
	"caller_not_identified" in store.deny_reasons with input as question
}

test_nothing_need_be_requested if {
	question := json.remove(creation(given.ann, {}), ["requested"])
	store.stamp == defaults with input as question
}

test_only_what_is_created_or_shared_anew_is_stamped[sprintf("%s, %v", [action, requested])] if {
	some action in ["store.read", "store.delete"]
	some requested in [{}, {"teams": ["eng"]}]
	question := object.union(decided(action, given.ann, {"owner": "ann"}), {"requested": requested})
	store.allow with input as question
	not store.stamp with input as question
}

# Whatever belongs to another action gives no reason.
test_what_is_requested_matters_to_a_creation_only if {
	question := object.union(decided("store.read", object.union(given.ann, {"id": ""}), {}), {"requested": {"teams": ["ops"]}})
	store.allow with input as question
	store.deny_reasons == set() with input as question
}

test_an_unknown_action_is_denied if {
	question := decided("store.own", given.ann, {"owner": "ann", "shared": true})
	store.allow == false with input as question
	store.deny_reasons == {"unknown_action"} with input as question
}

denied := {"denied_by_custom_rule"}

label := {"label_restricted: hr-only"}

custom_cases := {
	"a grant that is a set": [reading, given.eve, {}, false, set(), unshared],
	"a denial that is a set": [reading, given.ann, {}, set(), false, denied],
	"a denial of reading her own": [reading, given.ann, {"owner": "ann"}, true, false, denied],
	"a denial of adding to her own": [adding, given.ann, {"owner": "ann"}, true, false, denied],
	"a denial of changing her own": [changing, given.ann, {"owner": "ann"}, true, false, denied],
	"a grant of reading a private store": [reading, given.eve, {"visibility": "private"}, false, true, set()],
	"a grant of reading above her clearance": [reading, given.eve, {"level": 3}, false, true, unshared],
	"a grant of reading another tenant's": [reading, given.mallory, {}, false, true, unshared],
	"a grant of reading under a label": [reading, given.eve, {"labels": ["hr-only"]}, false, true, label],
	"a grant of reading, which is none of adding": [adding, given.eve, {}, false, true, unaddable],
	"a grant of reading, which is none of changing": [changing, given.eve, {}, false, true, unchangeable],
}

test_there_are_custom_cases if count(custom_cases) == 11

test_custom_rules[sprintf("%s (%s)", [name, action])] if {
	some name, [actions, principal, changes, deny, grant, reasons] in custom_cases
	some action in actions
	question := decided(action, principal, changes)
	allowed := store.allow with input as question
		with data.regate.custom.store.deny as deny
		with data.regate.custom.store.grant as grant
	found := store.deny_reasons with input as question
		with data.regate.custom.store.deny as deny
		with data.regate.custom.store.grant as grant
	found == reasons
	given.agrees(allowed, reasons)
}

test_a_custom_rule_may_deny_creating_and_detaching if {
	question := creation(given.ann, {})
	not store.allow with input as question with data.regate.custom.store.deny as true
	not store.stamp with input as question with data.regate.custom.store.deny as true
	store.deny_reasons == denied with input as question with data.regate.custom.store.deny as true
	taken := detaching(given.ann, {}, {"owner": "ann"})
	not store.allow with input as taken with data.regate.custom.store.deny as true
	store.deny_reasons == denied with input as taken with data.regate.custom.store.deny as true
}

test_custom_fields_are_added_and_change_none if {
	question := creation(given.ann, {})
	further := {"region": "eu", "tenant": "globex", "owner": "bob", "level": 9, "teams": ["x"], "shared": true}
	store.stamp == object.union(defaults, {"region": "eu"}) with input as question with data.regate.custom.store.stamp as further
	store.stamp == defaults with input as question with data.regate.custom.store.stamp as "eu"
}

placement := {"acme": "acme-own"}

placed := {
	"a tenant that is named": [creation(given.ann, {}), {"acme-own"}],
	"a tenant that is not named": [creation(given.mallory, {}), set()],
	"a store that she may not make": [creation(given.ann, {"share": "all_tenants"}), set()],
	"a caller without a tenant": [json.remove(creation(given.ann, {}), ["principal/tenant"]), set()],
	"a store that is there already": [decided("store.read", given.ann, {"owner": "ann"}), set()],
}

test_there_are_placed_cases if count(placed) == 5

test_placement[name] if {
	some name, [question, engines] in placed
	found := {engine | engine := store.placement with input as question with data.regate.placement as placement}
	found == engines
}

test_as_shipped_no_store_is_placed if not store.placement with input as creation(given.ann, {})
