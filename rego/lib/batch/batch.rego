# METADATA
# title: Many decisions in one query
# description: |
#   Asks the rules of the decision points once for each member, with exactly the input that a single decision has, so that a filter, a single
#   decision and a batch cannot differ. Whatever is not named in the answer is denied. Not for operators to change.
# scope: package
# schemas:
#   - input: schema.input.batch
package regate.lib.batch

# METADATA
# title: What is admitted
# description: The sets below, and those of `listed.rego`, in one object, always all of them.
# entrypoint: true
# custom:
#   code: batch_admitted
admitted := {
	"chunks": chunks,
	"items": items,
	"listed_files": listed_files,
	"listed_prompts": listed_prompts,
	"listed_responses": listed_responses,
	"listed_stores": listed_stores,
	"models": models,
	"stores": stores,
	"tool_results": tool_results,
}

# METADATA
# title: Admitted chunks
# description: Positions in `input.chunks`. A chunk whose store is not in `input.stores` is never admitted.
chunks contains i if {
	some i, entry in input.chunks

	# A fresh small input each time: `with input.chunk as …` would copy the whole batch for every chunk.
	data.regate.chunk.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "chunk.read",
		"principal": input.principal, "store": input.stores[entry.store], "chunk": entry.chunk,
	}
}

# METADATA
# title: Admitted items
# description: Positions in `input.items` that may be used again as history.
items contains i if {
	some i, item in input.items
	data.regate.history.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "history.reuse",
		"principal": input.principal, "item": item,
	}
}

# METADATA
# title: Admitted stores
# description: Keys of `input.stores` that may be searched.
stores contains id if {
	some id, store in input.stores
	data.regate.store.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "store.search",
		"principal": input.principal, "store": store,
	}
}

# METADATA
# title: Admitted tool results
# description: Positions in `input.tool_results` that may enter the prompt.
tool_results contains i if {
	some i, entry in input.tool_results
	data.regate.tool.admit_result == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "tool.result",
		"principal": input.principal, "tool": entry.tool, "result": entry.result,
	}
}

# METADATA
# title: Admitted models
# description: Names in `input.models` that the caller is shown.
models contains model if {
	some model in input.models
	data.regate.route.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "model.list", "principal": input.principal,
		"request": {"method": "GET", "path": "/v1/models", "model": model, "stream": false, "tool_types": []},
	}
}

# METADATA
# title: Why chunks are denied
# description: For every position in `input.chunks`, the sorted reasons; none for a chunk that is admitted. For operators only.
# entrypoint: true
# custom:
#   code: batch_chunk_reasons
chunk_reasons[sprintf("%v", [i])] := reasons if {
	some i, entry in input.chunks
	reasons := sort(data.regate.chunk.deny_reasons) with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "chunk.read",
		"principal": input.principal, "store": input.stores[entry.store], "chunk": entry.chunk,
	}
}

chunk_reasons[sprintf("%v", [i])] := ["unknown_store"] if {
	some i, entry in input.chunks
	not _store_known(entry)
}

_store_known(entry) if input.stores[entry.store]
