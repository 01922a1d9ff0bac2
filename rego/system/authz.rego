# METADATA
# title: Who may use this OPA
# description: |
#   For an OPA run with `--authentication=token --authorization=basic`. The gateway may ask for decisions below `data.regate`, compile filters,
#   and read the policies, without which it serves none of them; nobody may read anything else through the API, or write anything. Health is for
#   anyone.
#   The token is no part of these policies: whoever runs OPA supplies `data.system.gateway_token`, fresh and random, from a place only OPA can
#   read. Without it nothing but health is answered.
# scope: package
# schemas:
#   - input: schema.input.authz
package system.authz

# METADATA
# title: May this API request be served?
# description: Decisions, filters and the policies themselves for the gateway, health for anyone.
# custom:
#   code: authz_allow
default allow := false

allow if {
	_from_gateway
	input.method == "POST"
	_asks_for_decision
}

allow if {
	_from_gateway
	input.method == "GET"
	input.path == ["v1", "policies"]
}

allow if {
	input.method == "GET"
	input.path == ["health"]
}

_from_gateway if {
	is_string(data.system.gateway_token)
	data.system.gateway_token != ""
	input.identity == data.system.gateway_token
}

# One rule below data.regate, never the whole tree.
_asks_for_decision if {
	array.slice(input.path, 0, 3) == ["v1", "data", "regate"]
	count(input.path) > 3
}

_asks_for_decision if input.path == ["v1", "compile"]
