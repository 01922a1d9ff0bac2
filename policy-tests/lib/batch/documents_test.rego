package regate.lib.batch_test

import data.regate.lib.batch
import data.regate_fixtures as given

document(file, requested) := {
	"filename": "handbook.md", "mime": "", "size": 10, "attributes": {}, "requested": requested,
	"file": object.union(given.file, file),
}

documents := [
	document({}, {}),
	document({"tenant": "globex"}, {}),
	document({"owner": "ann"}, {"teams": ["eng"]}),
	document({"owner": "ann"}, {"teams": ["ops"]}),
	document({"visibility": "private"}, {}),
	{"filename": "", "mime": "", "size": 0, "attributes": {}, "requested": {}, "file": {"id": ""}},
]

adding_them := given.asked("batch", given.ann, {"store": given.store, "documents": documents})

single_document(i) := given.asked("ingest.document", given.ann, {"store": given.store, "document": documents[i]})

test_there_are_documents if count(documents) == 6

# The input of every member must be exactly that of the single decision.
test_documents_are_stamped_as_single_ones_are if {
	single := {sprintf("%v", [i]): stamp |
		some i in numbers.range(0, 5)
		stamp := data.regate.ingest.stamp with input as single_document(i)
	}
	object.keys(single) == {"0", "2", "4"}
	batch.ingested.stamps == single with input as adding_them
}

test_documents_are_explained_as_single_ones_are if {
	single := {sprintf("%v", [i]): sort(reasons) |
		some i in numbers.range(0, 5)
		reasons := data.regate.ingest.reject_reasons with input as single_document(i)
	}
	single["0"] == []
	single["3"] == ["teams: may name only teams that you hold"]
	batch.document_reasons == single with input as adding_them
}

test_files_are_read_as_single_ones_are if {
	single := {i |
		some i in numbers.range(0, 5)
		data.regate.file.allow with input as given.asked("file.read", given.ann, {"file": documents[i].file})
	}
	single == {0, 2, 3}
	batch.ingested.readable == single with input as adding_them
}

test_no_documents_have_no_stamps if {
	batch.ingested == {"readable": set(), "stamps": {}} with input as given.asked("batch", given.ann, {"store": given.store})
	batch.ingested == {"readable": set(), "stamps": {}} with input as {}
	batch.document_reasons == {} with input as {}
}

test_no_document_is_stamped_without[key] if {
	some key in ["v", "now", "request_id", "principal", "store"]
	batch.ingested.stamps == {} with input as json.remove(adding_them, [key])
}

test_only_exactly_true_lets_a_document_in if {
	batch.ingested.stamps == {} with input as adding_them with data.regate.ingest.allow as "yes"
	batch.ingested.readable == set() with input as adding_them with data.regate.file.allow as [true]
}
