package regate.lib.caller_test

import data.regate.lib.caller

cases := {
	"both": [{"id": "ann", "tenant": "acme"}, true],
	"no id": [{"tenant": "acme"}, false],
	"no tenant": [{"id": "ann"}, false],
	"an empty id": [{"id": "", "tenant": "acme"}, false],
	"an empty tenant": [{"id": "ann", "tenant": ""}, false],
	"an id that is no text": [{"id": ["ann"], "tenant": "acme"}, false],
	"a tenant that is no text": [{"id": "ann", "tenant": 1}, false],
	"no object": [null, false],
}

test_there_are_cases if count(cases) == 8

test_case[name] if {
	some name, [principal, identified] in cases
	found := [true | caller.identified with input as {"principal": principal}]
	count(found) == count([true | identified])
}

tenants := {"acme": {"suspended": false, "admins": ["ann"]}}

administrators := {
	"whom operators name": [{"id": "ann", "tenant": "acme", "roles": []}, true],
	"who holds the role": [{"id": "bob", "tenant": "acme", "roles": ["policy_admin"]}, true],
	"another of the tenant": [{"id": "bob", "tenant": "acme", "roles": ["store_admin"]}, false],
	"a namesake in another tenant": [{"id": "ann", "tenant": "globex", "roles": []}, false],
	"no object": [null, false],
}

test_there_are_administrators if count(administrators) == 5

test_administrators[name] if {
	some name, [principal, administers] in administrators
	found := [true | caller.administers with input as {"principal": principal} with data.regate.tenants as tenants]
	count(found) == count([true | administers])
}
