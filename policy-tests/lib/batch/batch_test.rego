package regate.lib.batch_test

import data.regate.lib.batch
import data.regate_fixtures as given

result := {"mime": "text/plain", "size": 10, "labels": []}

tool := {"type": "file_search", "server_label": "", "name": "file_search", "arguments": {}, "side_effect": false}

question := given.asked("batch", given.ann, {
	"stores": {
		"vs_team": given.store,
		"vs_foreign": object.union(given.store, {"tenant": "globex"}),
		"vs_absent": {"id": ""},
	},
	"chunks": [
		{"store": "vs_team", "chunk": given.chunk},
		{"store": "vs_team", "chunk": object.union(given.chunk, {"tenant": "globex"})},
		{"store": "vs_unknown", "chunk": given.chunk},
		{"store": "vs_foreign", "chunk": given.chunk},
		{"store": "vs_team", "chunk": object.union(given.chunk, {"level": 9, "legal_hold": true})},
		{"chunk": given.chunk},
	],
	"items": [given.item, object.union(given.item, {"owner": "bob"}), given.item],
	"tool_results": [
		{"tool": tool, "result": object.union(result, {"labels": ["hr-only"]})},
		{"tool": tool, "result": result},
	],
	"models": ["small", "big"],
	"listed_files": [given.file, object.union(given.file, {"visibility": "private"})],
	"listed_prompts": [object.union(given.prompt, {"tenant": "globex"}), given.prompt],
	"listed_responses": [given.item, object.union(given.item, {"owner": "bob"})],
	"listed_stores": [given.store, {"id": ""}, object.union(given.store, {"tenant": "globex", "shared": true})],
})

admitted := {
	"stores": {"vs_team"},
	"chunks": {0, 3},
	"items": {0, 2},
	"tool_results": {1},
	"models": {"small"},
	"listed_files": {0},
	"listed_prompts": {1},
	"listed_responses": {0},
	"listed_stores": {0, 2},
}

none := {kind: set() | some kind in object.keys(admitted)}

test_each_member_is_decided_by_itself if {
	batch.admitted == admitted with input as question with data.regate.models as {"big": ["globex"]}
}

test_there_are_kinds if count(none) == 9

# Chunks need their stores; each other kind stands alone.
test_a_kind_stands_alone[kind] if {
	some kind in (object.keys(none) - {"chunks"})
	only := object.filter(question, {"v", "now", "request_id", "action", "principal", kind})
	found := batch.admitted with input as only with data.regate.models as {"big": ["globex"]}
	found == object.union(none, {kind: admitted[kind]})
}

test_chunks_without_their_stores_are_denied if {
	batch.chunks == set() with input as json.remove(question, ["stores"])
}

test_an_empty_batch_admits_nothing if {
	batch.admitted == none with input as given.asked("batch", given.ann, {})
	batch.admitted == none with input as {}
}

test_nothing_is_admitted_without[key] if {
	some key in ["v", "now", "request_id", "principal"]
	batch.admitted == none with input as json.remove(question, [key])
}

# The input of every member must be exactly that of the single decision, so that a filter made for one holds for the other.
test_a_batch_agrees_with_single_decisions if {
	single := {i |
		some i, entry in question.chunks
		data.regate.chunk.allow with input as given.asked("chunk.read", given.ann, {
			"store": question.stores[entry.store],
			"chunk": entry.chunk,
		})
	}
	batch.chunks == single with input as question
}

test_only_exactly_true_admits if {
	batch.chunks == set() with input as question with data.regate.chunk.allow as "yes"
	batch.items == set() with input as question with data.regate.history.allow as 1
	batch.stores == set() with input as question with data.regate.store.allow as [true]
	batch.tool_results == set() with input as question with data.regate.tool.admit_result as {"allow": true}
	batch.models == set() with input as question with data.regate.route.allow as "true"
}

test_every_chunk_is_explained if {
	batch.chunk_reasons == {
		"0": [],
		"1": ["other_tenant"],
		"2": ["unknown_store"],
		"3": [],
		"4": ["legal_hold", "level_above_clearance"],
		"5": ["unknown_store"],
	} with input as question
}
