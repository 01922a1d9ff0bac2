package system.authz_test

import data.system.authz

request := {"identity": "secret", "method": "POST", "path": ["v1", "data", "regate", "chunk", "allow"]}

decided(changes) := object.union(request, changes)

cases := {
	"a decision": [{}, true],
	"a batch": [{"path": ["v1", "data", "regate", "lib", "batch", "admitted"]}, true],
	"a filter": [{"path": ["v1", "compile"]}, true],
	"the policies": [{"method": "GET", "path": ["v1", "policies"]}, true],
	"the policies with a wrong token": [{"method": "GET", "path": ["v1", "policies"], "identity": "x"}, false],
	"writing policies": [{"path": ["v1", "policies"]}, false],
	"below the policies": [{"method": "GET", "path": ["v1", "policies", "regate"]}, false],
	"health": [{"method": "GET", "path": ["health"]}, true],
	"health without a token": [{"method": "GET", "path": ["health"], "identity": ""}, true],
	"a wrong token": [{"identity": "Secret"}, false],
	"an empty token": [{"identity": ""}, false],
	"a filter with a wrong token": [{"identity": "x", "path": ["v1", "compile"]}, false],
	"all that is decided": [{"path": ["v1", "data", "regate"]}, false],
	"all data": [{"path": ["v1", "data"]}, false],
	"its own token": [{"path": ["v1", "data", "system", "gateway_token"]}, false],
	"reading data": [{"method": "GET"}, false],
	"writing data": [{"method": "PUT"}, false],
	"patching data": [{"method": "PATCH"}, false],
	"a policy": [{"method": "PUT", "path": ["v1", "policies", "regate"]}, false],
	"an older decision API": [{"path": ["v0", "data", "regate", "chunk", "allow"]}, false],
	"a free query": [{"path": ["v1", "query"]}, false],
	"a compiled rule": [{"path": ["v1", "compile", "regate", "chunk", "allow"]}, false],
	"changing health": [{"path": ["health"], "identity": ""}, false],
	"more than health": [{"method": "GET", "path": ["health", "x"]}, false],
	"nothing": [{"path": []}, false],
}

test_there_are_cases if count(cases) == 25

test_case[name] if {
	some name, [changes, allowed] in cases
	authz.allow == allowed with input as decided(changes) with data.system.gateway_token as "secret"
}

unset := {"an empty token": "", "no text": null, "an object": {}}

test_without_a_token_set_nobody_is_the_gateway if {
	not authz.allow with input as request
	not authz.allow with input as json.remove(request, ["identity"])
}

test_there_are_unset_tokens if count(unset) == 3

test_a_token_that_is_no_secret_lets_nobody_in[name] if {
	some name, token in unset
	not authz.allow with input as decided({"identity": token}) with data.system.gateway_token as token
}
