package regate.lib.batch

# METADATA
# title: Listed files
# description: Positions in `input.listed_files`, rows of a list that the caller is shown, as the list's filter was made.
listed_files contains i if {
	some i, file in input.listed_files
	data.regate.file.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "file.list",
		"principal": input.principal, "file": file,
	}
}

# METADATA
# title: Listed prompts
# description: Positions in `input.listed_prompts`.
listed_prompts contains i if {
	some i, prompt in input.listed_prompts
	data.regate.prompt.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "prompt.list",
		"principal": input.principal, "prompt": prompt,
	}
}

# METADATA
# title: Listed responses
# description: Positions in `input.listed_responses`.
listed_responses contains i if {
	some i, item in input.listed_responses
	data.regate.history.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "response.list",
		"principal": input.principal, "item": item,
	}
}

# METADATA
# title: Listed stores
# description: Positions in `input.listed_stores`.
listed_stores contains i if {
	some i, store in input.listed_stores
	data.regate.store.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "store.list",
		"principal": input.principal, "store": store,
	}
}
