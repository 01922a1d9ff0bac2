# METADATA
# title: Routes and models
# description: Whether the caller may use a route with a model, and which models it is shown. Asked once a request, before anything else.
# scope: package
# schemas:
#   - input: schema.input.route
#   - input.principal: schema.input.principal
#   - data.regate.models: schema.operators.models
#   - data.regate.backends: schema.operators.backends
package regate.route

import data.regate.lib.caller

_actions := {"route.call", "model.list"}

# METADATA
# title: May the route be called, or the model be listed?
# description: Every identified principal may, unless operators list the model for other tenants or a custom rule denies.
# entrypoint: true
# custom:
#   code: route_allow
default allow := false

allow if {
	_action_known
	caller.identified
	_model_granted
	not data.regate.custom.route.deny
}

# METADATA
# title: The upstream that serves the model
# description: |
#   Its configured name; the tenant's own where operators give it one. Undefined where nothing is said: then the configuration decides.
# entrypoint: true
# custom:
#   code: route_backend
backend := object.get(_served.tenants, input.principal.tenant, _served.backend) if allow

# METADATA
# title: What must be done with the answer
# description: What operators say of the model, for the gateway to do; one that it cannot do is a refusal.
# entrypoint: true
# custom:
#   code: route_obligations
default obligations := {}

obligations := _served.obligations

# METADATA
# title: Why not
# description: For the audit record. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: route_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "caller_not_identified" if not caller.identified

deny_reasons contains "model_not_granted" if not _model_granted

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.route.deny

_action_known if input.action in _actions

_model_granted if {
	is_string(input.request.model)
	not _model_restricted
}

_model_granted if input.principal.tenant in data.regate.models[input.request.model]

_model_restricted if {
	some model, _ in data.regate.models
	model == input.request.model
}

_served := data.regate.backends[input.request.model]
