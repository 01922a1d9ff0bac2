package regate.suspended_test

import data.regate.chunk
import data.regate.file
import data.regate.history
import data.regate.store
import data.regate.tool
import data.regate_fixtures as given

tenants := {"acme": {"suspended": true, "admins": []}, "globex": {"suspended": false, "admins": []}}

call := {"type": "file_search", "server_label": "", "name": "file_search", "arguments": {"query": "leave"}, "side_effect": false}

chunk_question := given.asked("chunk.read", given.ann, {"store": given.store, "chunk": given.chunk})

call_question := given.asked("tool.call", given.ann, {"tool": call, "turn": {"index": 0, "calls_so_far": 0}})

result_question := given.asked("tool.result", given.ann, {
	"tool": call,
	"result": {"mime": "text/plain", "size": 10, "labels": []},
})

its_own := {"owner": "ann", "visibility": "private"}

stores := {"store.list", "store.read", "store.search", "store.add", "store.update", "store.delete", "store.detach"}

items := {"history.reuse", "response.read", "response.list", "conversation.read", "conversation.update"}

test_a_chunk_is_denied if {
	chunk.allow == true with input as chunk_question with data.regate.tenants as {}
	chunk.allow == false with input as chunk_question with data.regate.tenants as tenants
	chunk.deny_reasons == {"tenant_suspended"} with input as chunk_question with data.regate.tenants as tenants
}

test_the_callers_own_store_is_denied[action] if {
	some action in stores
	question := given.asked(action, given.ann, {"store": object.union(given.store, its_own), "requested": {}, "attachment": object.union(given.chunk, its_own)})
	store.allow == true with input as question with data.regate.tenants as {}
	store.allow == false with input as question with data.regate.tenants as tenants
	store.deny_reasons == {"tenant_suspended"} with input as question with data.regate.tenants as tenants
}

test_the_callers_own_file_is_denied[action] if {
	some action in {"file.list", "file.read", "file.delete"}
	question := given.asked(action, given.ann, {"file": object.union(given.file, its_own)})
	file.allow == true with input as question with data.regate.tenants as {}
	file.allow == false with input as question with data.regate.tenants as tenants
	file.deny_reasons == {"tenant_suspended"} with input as question with data.regate.tenants as tenants
}

test_the_callers_own_item_is_denied[action] if {
	some action in items
	question := given.asked(action, given.ann, {"item": given.item})
	history.allow == true with input as question with data.regate.tenants as {}
	history.allow == false with input as question with data.regate.tenants as tenants
	history.deny_reasons == {"tenant_suspended"} with input as question with data.regate.tenants as tenants
}

test_a_call_and_its_result_are_denied if {
	tool.allow == true with input as call_question with data.regate.tenants as {}
	tool.allow == false with input as call_question with data.regate.tenants as tenants
	tool.deny_reasons == {"tenant_suspended"} with input as call_question with data.regate.tenants as tenants
	tool.admit_result == true with input as result_question with data.regate.tenants as {}
	tool.admit_result == false with input as result_question with data.regate.tenants as tenants
	tool.deny_reasons == {"tenant_suspended"} with input as result_question with data.regate.tenants as tenants
}

test_another_tenant_is_not_concerned if {
	of_another := {"globex": {"suspended": true, "admins": []}, "acme": {"suspended": false, "admins": []}}
	chunk.allow == true with input as chunk_question with data.regate.tenants as of_another
}
