package regate.egress_test

import data.regate.egress
import data.regate_fixtures as given

place := {
	"purpose": "page",
	"scheme": "https",
	"host": "docs.example.com",
	"port": 443,
	"private": false,
	"operator_named": false,
}

listed := {
	"page": ["docs.example.com", ".wikipedia.org", "2606:4700::1111"],
	"image": ["*"],
	"file": [".corp.example"],
}

to(changes) := given.asked("egress.connect", given.ann, {"destination": object.union(place, changes)})

# what is named -> whether it may be connected to
cases := {
	"a listed host": [{}, true],
	"a listed host, on another port": [{"port": 8443}, true],
	"a listed host that is private": [{"private": true}, true],
	"a listed address": [{"host": "2606:4700::1111"}, true],
	"a host below a listed suffix": [{"host": "en.wikipedia.org"}, true],
	"a host far below a listed suffix": [{"host": "a.b.wikipedia.org"}, true],
	"a private host below a listed suffix": [{"host": "en.wikipedia.org", "private": true}, false],
	"the bare name of a suffix": [{"host": "wikipedia.org"}, false],
	"a name that only ends alike": [{"host": "evilwikipedia.org"}, false],
	"a name that a listed one is part of": [{"host": "docs.example.com.evil.org"}, false],
	"a host below one listed by its whole name": [{"host": "x.docs.example.com"}, false],
	"any public host, where all are listed": [{"purpose": "image", "host": "a.test"}, true],
	"a private host, where all are listed": [{"purpose": "image", "host": "a.test", "private": true}, false],
	"a host that is listed for another purpose": [{"purpose": "image", "private": true}, false],
	"a purpose without hosts": [{"purpose": "mcp"}, false],
	"a purpose of no such name": [{"purpose": "pages"}, false],
	"what the operator named": [{"purpose": "mcp", "operator_named": true}, true],
	"what the operator named, private": [{"purpose": "mcp", "operator_named": true, "private": true}, true],
}

test_there_are_cases if count(cases) == 18

test_case[name] if {
	some name, [changes, expected] in cases
	allowed := egress.allow with input as to(changes) with data.regate.egress_hosts as listed
	reasons := egress.deny_reasons with input as to(changes) with data.regate.egress_hosts as listed
	allowed == expected
	reasons == {reason | reason := "destination_not_granted"; not expected}
	given.agrees(allowed, reasons)
}

needed := {
	"action",
	"principal",
	"principal/id",
	"principal/tenant",
	"destination",
	"destination/purpose",
	"destination/host",
	"destination/private",
}

test_nothing_is_allowed_without[path] if {
	some path in needed
	question := json.remove(to({"host": "en.wikipedia.org"}), [path])
	egress.allow == false with input as question with data.regate.egress_hosts as listed
	count(egress.deny_reasons) > 0 with input as question with data.regate.egress_hosts as listed
}

test_a_host_that_is_no_text_is_not_listed if {
	hosts := {"page": [7]}
	egress.allow == false with input as to({"host": 7}) with data.regate.egress_hosts as hosts
	egress.allow == false with input as to({"host": 7}) with data.regate.egress_hosts as {"page": ["*"]}
}

test_an_unknown_action_is_denied if {
	question := object.union(to({"operator_named": true}), {"action": "egress.listen"})
	egress.allow == false with input as question
	egress.deny_reasons == {"unknown_action"} with input as question
}

test_a_nobody_is_denied if {
	question := given.asked(
		"egress.connect", object.union(given.ann, {"id": ""}),
		{"destination": object.union(place, {"operator_named": true})},
	)
	egress.allow == false with input as question
	egress.deny_reasons == {"caller_not_identified"} with input as question
}

test_a_custom_rule_may_grant if {
	egress.allow with input as to({}) with data.regate.custom.egress.grant as true
	egress.deny_reasons == set() with input as to({}) with data.regate.custom.egress.grant as true
}

test_a_custom_rule_may_deny_what_the_operator_named if {
	question := to({"operator_named": true})
	egress.allow == false with input as question with data.regate.custom.egress.deny as true
	egress.deny_reasons == {"denied_by_custom_rule"} with input as question with data.regate.custom.egress.deny as true
}

test_as_shipped_no_host_of_a_client_is_granted[purpose] if {
	some purpose in {"mcp", "page", "file", "image", "search", "code"}
	not egress.allow with input as to({"purpose": purpose})
}
