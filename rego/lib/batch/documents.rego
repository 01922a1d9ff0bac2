package regate.lib.batch

# METADATA
# title: Many documents for one store
# description: |
#   Which of `input.documents` are of files that the caller may read, and the stamps of those that may be ingested, by position. Whatever is
#   not named is denied.
# entrypoint: true
# custom:
#   code: batch_ingested
ingested := {"readable": _readable, "stamps": _stamps}

# METADATA
# title: Why documents are denied
# description: For every position in `input.documents`, the sorted reasons; none for a document that may be ingested.
# entrypoint: true
# custom:
#   code: batch_document_reasons
document_reasons[sprintf("%v", [i])] := reasons if {
	some i, document in input.documents
	reasons := sort(data.regate.ingest.reject_reasons) with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "ingest.document",
		"principal": input.principal, "store": input.store, "document": document,
	}
}

_readable contains i if {
	some i, document in input.documents
	data.regate.file.allow == true with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "file.read",
		"principal": input.principal, "file": document.file,
	}
}

_stamps[sprintf("%v", [i])] := stamp if {
	some i, document in input.documents
	stamp := _stamp with input as {
		"v": input.v, "now": input.now, "request_id": input.request_id, "action": "ingest.document",
		"principal": input.principal, "store": input.store, "document": document,
	}
}

# A rule of its own, since whatever stands under one `with` is worked out once.
_stamp := data.regate.ingest.stamp if data.regate.ingest.allow == true
