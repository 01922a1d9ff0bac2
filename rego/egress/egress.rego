# METADATA
# title: Egress
# description: |
#   Whether the gateway may connect to a place outside for the caller. What a client or a model names is sent nowhere unless operators list its
#   host. The gateway itself refuses private addresses outside of `egress.allow_private`, whatever is said here.
# scope: package
# schemas:
#   - input: schema.input.egress
#   - input.principal: schema.input.principal
#   - data.regate.egress_hosts: schema.operators.egress_hosts
package regate.egress

import data.regate.lib.caller

# METADATA
# title: May the gateway connect there?
# description: |
#   Where the operator named the destination in the configuration, where `egress_hosts` lists the host for this purpose, and where a custom
#   rule grants it. A custom rule may deny any of it.
# entrypoint: true
# custom:
#   code: egress_allow
default allow := false

allow if {
	_action_known
	caller.identified
	_granted
	not data.regate.custom.egress.deny
}

# METADATA
# title: Why not
# description: For the audit record. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: egress_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "caller_not_identified" if not caller.identified

deny_reasons contains "destination_not_granted" if not _granted

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.egress.deny

_action_known if input.action == "egress.connect"

_granted if input.destination.operator_named == true

_granted if _listed

_granted if data.regate.custom.egress.grant

# A host of a private network must be listed by its whole name: whoever owns a name below a suffix says where it leads.
_listed if {
	is_string(input.destination.host)
	input.destination.host in data.regate.egress_hosts[input.destination.purpose]
}

_listed if {
	input.destination.private == false
	is_string(input.destination.host)
	some pattern in data.regate.egress_hosts[input.destination.purpose]
	_covers(pattern, input.destination.host)
}

_covers("*", _)

_covers(pattern, host) if {
	startswith(pattern, ".")
	endswith(host, pattern)
}
