# METADATA
# title: Routes and models
# description: Whether the caller may use a route with a model, and which models it is shown. Asked once a request, before anything else.
# scope: package
# schemas:
#   - input: schema.input.route
#   - input.principal: schema.input.principal
#   - data.regate.models: schema.operators.models
package regate.route

import data.regate.lib.caller

_actions := {"route.call", "model.list"}

# METADATA
# title: May the route be called, or the model be listed?
# description: Every identified principal may, unless operators list the model for other tenants.
# entrypoint: true
# custom:
#   code: route_allow
default allow := false

allow if {
	_action_known
	caller.identified
	_model_granted
}

# METADATA
# title: Why not
# description: For the audit record. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: route_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "caller_not_identified" if not caller.identified

deny_reasons contains "model_not_granted" if not _model_granted

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
