package regate.lib.batch_test

import data.regate.lib.batch
import data.regate_fixtures as given

others := [{}, {"tenant": "globex"}, {"owner": "ann"}, {"visibility": "private"}, {"visibility": "tenant", "level": 9}, {"labels": ["board"]}]

varied(row) := [object.union(row, change) | some change in others]

# The input of every row must be exactly that of the single decision, and of the list's filter: the same action, and nothing but the row.
single(action, name, rows) := [given.asked(action, given.ann, {name: row}) | some row in rows]

test_there_are_rows if count(varied(given.store)) == 6

test_stores_are_listed_as_single_ones_are if {
	rows := varied(given.store)
	asked := single("store.list", "store", rows)
	alone := {i | some i, one in asked; data.regate.store.allow with input as one with data.regate.deny_labels as given.deny_labels}
	alone == {0, 2}
	batch.listed_stores == alone with input as given.asked("batch", given.ann, {"listed_stores": rows})
		with data.regate.deny_labels as given.deny_labels
}

test_files_are_listed_as_single_ones_are if {
	rows := varied(given.file)
	asked := single("file.list", "file", rows)
	alone := {i | some i, one in asked; data.regate.file.allow with input as one with data.regate.deny_labels as given.deny_labels}
	alone == {0, 2}
	batch.listed_files == alone with input as given.asked("batch", given.ann, {"listed_files": rows})
		with data.regate.deny_labels as given.deny_labels
}

test_prompts_are_listed_as_single_ones_are if {
	rows := varied(given.prompt)
	asked := single("prompt.list", "prompt", rows)
	alone := {i | some i, one in asked; data.regate.prompt.allow with input as one with data.regate.deny_labels as given.deny_labels}
	alone == {0, 2}
	batch.listed_prompts == alone with input as given.asked("batch", given.ann, {"listed_prompts": rows})
		with data.regate.deny_labels as given.deny_labels
}

test_responses_are_listed_as_single_ones_are if {
	rows := varied(object.union(given.item, {"kind": "response"}))
	asked := single("response.list", "item", rows)
	alone := {i | some i, one in asked; data.regate.history.allow with input as one with data.regate.deny_labels as given.deny_labels}
	alone == {0, 2, 3, 4}
	batch.listed_responses == alone with input as given.asked("batch", given.ann, {"listed_responses": rows})
		with data.regate.deny_labels as given.deny_labels
}

test_only_exactly_true_lists if {
	batch.listed_stores == set() with input as question with data.regate.store.allow as "yes"
	batch.listed_files == set() with input as question with data.regate.file.allow as [true]
	batch.listed_prompts == set() with input as question with data.regate.prompt.allow as 1
	batch.listed_responses == set() with input as question with data.regate.history.allow as "true"
}
