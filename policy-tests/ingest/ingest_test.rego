package regate.ingest_test

import data.regate.ingest
import data.regate_fixtures as given

ingested(principal, file, requested) := given.asked("ingest.document", principal, {
	"store": given.store,
	"document": {
		"filename": "handbook.md", "mime": "text/markdown", "size": 10,
		"attributes": {"tenant": "globex", "level": 0},
		"requested": requested,
		"file": object.union(given.file, file),
	},
})

own := {"owner": "ann"}

unlisted := {"teams": [], "roles": [], "projects": [], "namespaces": []}

defaults := {
	"tenant": "acme", "owner": "ann", "visibility": "attributes",
	"teams": ["eng"], "roles": [], "projects": ["apollo"], "namespaces": ["prod"],
	"level": 1, "labels": [], "legal_hold": false, "embargo_until": 0,
}

# Of Bob's file, which Ann's team shares.
inherited := object.union(defaults, {"projects": [], "namespaces": []})

# the file's stamp, what is requested, and how the chunks' stamp differs from the defaults
owned := {
	"nothing": [{}, {}, {}],
	"a team": [{}, {"teams": ["eng"]}, {"projects": [], "namespaces": []}],
	"a role": [{}, {"roles": ["editor"]}, object.union(unlisted, {"roles": ["editor"]})],
	"the whole tenant": [{}, {"visibility": "tenant"}, {"visibility": "tenant"}],
	"privacy": [{}, {"visibility": "private"}, object.union(unlisted, {"visibility": "private"})],
	"a level above the file's": [{}, {"level": 2}, {"level": 2}],
	"a level below the file's": [{"level": 2}, {"level": 1}, {"level": 2}],
	"labels besides the file's": [{"labels": ["c", "a"]}, {"labels": ["b", "a"]}, {"labels": ["a", "b", "c"]}],
	"nothing for a private file": [{"visibility": "private"}, {}, object.union(unlisted, {"visibility": "private"})],
	"a level for a private file": [{"visibility": "private"}, {"level": 2}, object.union(unlisted, {"visibility": "private", "level": 2})],
	"a team for a private file": [{"visibility": "private"}, {"teams": ["eng"]}, {"projects": [], "namespaces": []}],
}

foreign := {
	"nothing": [{}, {}, {}],
	"nothing for a file that the tenant sees": [{"visibility": "tenant"}, {}, {"visibility": "tenant"}],
	"nothing for a private file": [{"visibility": "private"}, {}, {"visibility": "private"}],
	"nothing for a file of other lists": [{"teams": ["x"], "roles": ["y"], "projects": ["z"]}, {}, {"teams": ["x"], "roles": ["y"], "projects": ["z"]}],
	"a level above the file's": [{}, {"level": 2}, {"level": 2}],
	"a level below the file's": [{}, {"level": 0}, {}],
	"labels besides the file's": [{"labels": ["b"]}, {"labels": ["a"]}, {"labels": ["a", "b"]}],
}

refused := {
	"a team that she is not in": [own, {"teams": ["ops"]}, {"teams: may name only teams that you hold"}],
	"a level above her clearance": [own, {"level": 3}, {"level: must be a whole number from 0 to your clearance"}],
	"an end to a legal hold": [own, {"legal_hold": false}, {"legal_hold: cannot be requested"}],
	"sharing with all tenants": [own, {"share": "all_tenants"}, {"share: cannot be requested"}],
	"another's file for a team": [{}, {"teams": ["eng"]}, {"teams: is inherited from the file, which you do not own"}],
	"another's file for nobody": [{}, {"visibility": "private"}, {"visibility: is inherited from the file, which you do not own"}],
	"another's file above clearance": [{}, {"level": 3}, {"level: must be a whole number from 0 to your clearance"}],
	"what is no object": [own, ["teams"], {"requested: must be an object"}],
	"another tenant's file": [{"tenant": "globex", "owner": "ann"}, {}, {"file_not_stamped_for_this_tenant"}],
	"a file without a level": [{"level": null}, {}, {"file_not_stamped_for_this_tenant"}],
	"a file without labels": [{"labels": null}, {}, {"file_not_stamped_for_this_tenant"}],
}

test_there_are_cases if {
	count(owned) == 11
	count(foreign) == 7
	count(refused) == 11
	count(needed) == 8
	count(restamped) == 13
	count(not_restamped) == 8
}

test_owner_requests[name] if {
	some name, [file, requested, changes] in owned
	question := ingested(given.ann, object.union(file, own), requested)
	ingest.allow with input as question
	ingest.reject_reasons == set() with input as question
	ingest.stamp == object.union(defaults, changes) with input as question
}

test_another_requests[name] if {
	some name, [file, requested, changes] in foreign
	question := ingested(given.ann, file, requested)
	ingest.allow with input as question
	ingest.reject_reasons == set() with input as question
	ingest.stamp == object.union(inherited, changes) with input as question
}

test_nobody_may_request[name] if {
	some name, [file, requested, reasons] in refused
	question := ingested(given.ann, file, requested)
	ingest.allow == false with input as question
	not ingest.stamp with input as question
	ingest.reject_reasons == reasons with input as question
}

again(principal, file, attachment, requested) := object.union(
	ingested(principal, file, requested),
	{"attachment": object.union(given.chunk, attachment)},
)

store_admin := object.union(given.eve, {"roles": ["store_admin"]})

secret := {"level": 2, "labels": ["x"], "legal_hold": true, "embargo_until": 5000, "visibility": "private", "teams": []}

# What Bob added and made secret, as the store admin leaves it.
kept := object.union(given.unshared, {"owner": "bob", "visibility": "private", "level": 2, "labels": ["x"]})

holding := {"legal_hold": true, "embargo_until": 5000}

# caller, the file's stamp, the present stamp, what is requested, and how the new stamp differs from the defaults
restamped := {
	"nothing": [given.ann, own, own, {}, {}],
	"nothing keeps a hold and an embargo": [given.ann, own, object.union(own, secret), {}, holding],
	"a team": [given.ann, own, own, {"teams": ["eng"]}, {"projects": [], "namespaces": []}],
	"privacy": [given.ann, own, own, {"visibility": "private"}, object.union(unlisted, {"visibility": "private"})],
	"the tenant, of what was private": [given.ann, own, object.union(own, secret), {"visibility": "tenant"}, object.union(holding, {"visibility": "tenant"})],
	"a level below the file's": [given.ann, object.union(own, {"level": 2}), own, {"level": 1}, {"level": 2}],
	"fewer labels than before, not than the file's": [given.ann, object.union(own, {"labels": ["f"]}), object.union(own, {"labels": ["x"]}), {"labels": ["a"]}, {"labels": ["a", "f"]}],
	"nothing of a file that is Bob's": [given.ann, {}, own, {}, {"projects": [], "namespaces": []}],
	"nothing of a private file of hers": [given.ann, object.union(own, {"visibility": "private"}), own, {}, object.union(unlisted, {"visibility": "private"})],
	"nothing of Bob's, as store admin": [store_admin, {}, secret, {}, object.union(kept, holding)],
	"nothing of a file of hers that Bob added, as store admin": [store_admin, {"owner": "eve"}, secret, {}, object.union(kept, holding)],
	"nothing of a private file of hers that Bob added, as store admin": [store_admin, {"owner": "eve", "visibility": "private"}, {"visibility": "tenant"}, {}, object.union(unlisted, {"owner": "bob", "visibility": "tenant", "teams": ["eng"]})],
	"a level and labels of Bob's, as store admin": [store_admin, {}, {"labels": ["x"]}, {"level": 2, "labels": ["y"]}, object.union(unlisted, {"owner": "bob", "teams": ["eng"], "level": 2, "labels": ["x", "y"]})],
}

not_restamped := {
	"what Bob added": [given.ann, own, {}, {}, {"neither_owner_nor_store_admin"}],
	"a team that she is not in": [given.ann, own, own, {"teams": ["ops"]}, {"teams: may name only teams that you hold"}],
	"an end to a hold": [given.ann, own, own, {"legal_hold": false}, {"legal_hold: cannot be requested"}],
	"the tenant, of Bob's file": [given.ann, {}, own, {"visibility": "tenant"}, {"visibility: is inherited from the file, which you do not own"}],
	"the tenant of Bob's, as store admin": [store_admin, {}, {}, {"visibility": "tenant"}, {"visibility: is for whoever added the file to say"}],
	"a team of a file of hers that Bob added": [store_admin, {"owner": "eve"}, {}, {"teams": ["ops"]}, {"teams: is for whoever added the file to say"}],
	"what another tenant added": [store_admin, {}, {"tenant": "globex"}, {}, {"neither_owner_nor_store_admin"}],
	"what a namesake added": [given.ann, own, {"tenant": "globex", "owner": "ann"}, {}, {"neither_owner_nor_store_admin"}],
}

test_stamping_anew[name] if {
	some name, [principal, file, attachment, requested, changes] in restamped
	question := again(principal, file, attachment, requested)
	ingest.allow with input as question
	ingest.reject_reasons == set() with input as question
	ingest.stamp == object.union(defaults, changes) with input as question
}

test_nobody_may_stamp_anew[name] if {
	some name, [principal, file, attachment, requested, reasons] in not_restamped
	question := again(principal, file, attachment, requested)
	ingest.allow == false with input as question
	not ingest.stamp with input as question
	ingest.reject_reasons == reasons with input as question
}

test_an_attachment_that_says_nothing_is_nobodys[odd] if {
	some odd in [null, false, {}, "ann"]
	question := object.union(ingested(given.ann, own, {}), {"attachment": odd})
	ingest.allow == false with input as question
	ingest.reject_reasons == {"neither_owner_nor_store_admin"} with input as question
}

test_custom_rules_hold_for_stamping_anew_as_well if {
	question := again(given.ann, own, own, {})
	not ingest.stamp with input as question with data.regate.custom.ingest.deny as true
	further := {"region": "eu", "owner": "bob", "legal_hold": true}
	ingest.stamp == object.union(defaults, {"region": "eu"}) with input as question with data.regate.custom.ingest.stamp as further
}

needed := {
	"action", "principal", "principal/id", "principal/tenant",
	"document", "document/file", "document/file/tenant", "document/file/level",
}

test_nothing_is_stamped_without[path] if {
	some path in needed
	question := json.remove(ingested(given.ann, own, {}), [path])
	ingest.allow == false with input as question
	not ingest.stamp with input as question
	count(ingest.reject_reasons) > 0 with input as question
}

test_nothing_need_be_requested if {
	question := json.remove(ingested(given.ann, own, {}), ["document/requested"])
	ingest.stamp == defaults with input as question
}

test_a_namesake_in_another_tenant_does_not_own_the_file if {
	question := ingested(given.mallory, own, {})
	ingest.reject_reasons == {"file_not_stamped_for_this_tenant"} with input as question
	requesting := ingested(given.mallory, own, {"teams": ["eng"]})
	"teams: is inherited from the file, which you do not own" in ingest.reject_reasons with input as requesting
}

test_the_stamp_has_exactly_the_fields_of_a_chunk if {
	object.keys(ingest.stamp) == object.keys(given.chunk) with input as ingested(given.ann, {}, {})
	object.keys(ingest.stamp) == object.keys(given.chunk) with input as ingested(given.ann, own, {})
}

test_a_custom_rule_may_deny if {
	question := ingested(given.ann, own, {})
	ingest.allow == false with input as question with data.regate.custom.ingest.deny as true
	not ingest.stamp with input as question with data.regate.custom.ingest.deny as true
	ingest.reject_reasons == {"denied_by_custom_rule"} with input as question with data.regate.custom.ingest.deny as true
}

test_custom_fields_are_added_and_change_none if {
	question := ingested(given.ann, own, {})
	further := {"region": "eu", "tenant": "globex", "teams": ["x"], "level": 0, "legal_hold": true}
	ingest.stamp == object.union(defaults, {"region": "eu"}) with input as question with data.regate.custom.ingest.stamp as further
	ingest.stamp == defaults with input as question with data.regate.custom.ingest.stamp as "eu"
}
