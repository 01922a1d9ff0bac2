package regate.custom.chunk_test

import data.regate.chunk

ann := {
	"id": "ann", "tenant": "acme",
	"teams": ["eng"], "roles": [], "projects": [], "namespaces": [],
	"scopes": [], "clearance": 2, "attrs": {},
}

contractor := object.union(ann, {"roles": ["contractor"]})

director := object.union(ann, {"roles": ["director"]})

handbook := {
	"tenant": "acme", "owner": "bob", "visibility": "attributes",
	"teams": ["eng"], "roles": [], "projects": [], "namespaces": [],
	"level": 1, "labels": [], "legal_hold": false, "embargo_until": 0,
}

asked(principal, changes) := {
	"v": 1, "now": 1000, "request_id": "req_1", "action": "chunk.read",
	"principal": principal, "store": {}, "chunk": object.union(handbook, changes),
}

cases := {
	"a colleague": [ann, {}, true],
	"a contractor, above level 0": [contractor, {}, false],
	"a contractor, at level 0": [contractor, {"level": 0}, true],
	"the board's, for a colleague": [ann, {"labels": ["board"]}, false],
	"the board's, for a director": [director, {"labels": ["board"]}, true],
}

test_there_are_cases if count(cases) == 5

test_case[name] if {
	some name, [principal, changes, expected] in cases
	chunk.allow == expected with input as asked(principal, changes)
}
