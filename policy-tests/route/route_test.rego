package regate.route_test

import data.regate.route
import data.regate_fixtures as given

actions := ["route.call", "model.list"]

asked_for(action, principal, model) := given.asked(action, principal, {"request": {
	"method": "POST", "path": "/v1/responses", "model": model, "stream": false, "tool_types": [],
}})

models := {"big": ["globex"], "none": []}

cases := {
	"a model for everyone": [given.ann, "small", set()],
	"no model": [given.ann, "", set()],
	"another tenant's model": [given.ann, "big", {"model_not_granted"}],
	"her tenant's model": [given.mallory, "big", set()],
	"a model that no tenant has": [given.mallory, "none", {"model_not_granted"}],
	"a model that is no text": [given.ann, ["small"], {"model_not_granted"}],
	"a caller without a name": [object.union(given.ann, {"id": ""}), "small", {"caller_not_identified"}],
	"a caller without a tenant": [object.union(given.ann, {"tenant": ""}), "small", {"caller_not_identified"}],
}

test_there_are_cases if {
	count(cases) == 8
	count(needed) == 6
}

test_case[sprintf("%s (%s)", [name, action])] if {
	some action in actions
	some name, [principal, model, reasons] in cases
	question := asked_for(action, principal, model)
	allowed := route.allow with input as question with data.regate.models as models
	found := route.deny_reasons with input as question with data.regate.models as models
	found == reasons
	given.agrees(allowed, reasons)
}

needed := {"action", "principal", "principal/id", "principal/tenant", "request", "request/model"}

test_nothing_is_allowed_without[path] if {
	some path in needed
	question := json.remove(asked_for("route.call", given.ann, "small"), [path])
	route.allow == false with input as question
	count(route.deny_reasons) > 0 with input as question
}

test_an_unknown_action_is_denied if {
	question := asked_for("route.open", given.ann, "small")
	route.allow == false with input as question
	route.deny_reasons == {"unknown_action"} with input as question
}

test_as_shipped_every_model_is_for_everyone if route.allow with input as asked_for("route.call", given.ann, "big")

test_a_custom_rule_may_deny if {
	question := asked_for("route.call", given.ann, "small")
	route.allow == false with input as question with data.regate.custom.route.deny as true
	not route.backend with input as question
		with data.regate.custom.route.deny as true
		with data.regate.backends as backends
	route.deny_reasons == {"denied_by_custom_rule"} with input as question with data.regate.custom.route.deny as true
}

backends := {
	"small": {"backend": "vllm", "tenants": {"globex": "vllm-globex"}, "obligations": {"no_store": true}},
	"big": {"backend": "vllm", "tenants": {}, "obligations": {}},
}

# model, caller, and what is said of it
served := {
	"a model that is named": ["small", given.ann, ["vllm"], {"no_store": true}],
	"a tenant's own upstream": ["small", given.mallory, ["vllm-globex"], {"no_store": true}],
	"a model that is not named": ["other", given.ann, [], {}],
	"a model that is not granted": ["big", given.ann, [], {}],
	"no model": ["", given.ann, [], {}],
}

test_there_are_served_cases if count(served) == 5

test_served[name] if {
	some name, [model, principal, upstreams, obligations] in served
	question := asked_for("route.call", principal, model)
	found := [upstream |
		upstream := route.backend with input as question with data.regate.models as models with data.regate.backends as backends
	]
	found == upstreams
	route.obligations == obligations with input as question with data.regate.backends as backends
}
