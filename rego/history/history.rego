# METADATA
# title: History
# description: |
#   Whether a stored response, a conversation, or an item of one, may be used, read, changed or deleted, by the caller and the policy of now.
#   A conversation that is to be made is decided as the row it would be. With the row unknown the same rule is the filter of listings, so what is said about `input.item` stays within the filter fragment.
# scope: package
# compile:
#   unknowns: [input.item]
# schemas:
#   - input: schema.input.history
#   - input.principal: schema.input.principal
#   - input.item: schema.item
package regate.history

import data.regate.lib.caller
import data.regate.lib.labels

# METADATA
# title: May this be done with the item?
# description: |
#   It belongs to a person, subject and tenant; even they may not, once something it was made from is restricted for them. A custom rule may
#   let others of the tenant use and read it, and may deny anybody.
# entrypoint: true
# custom:
#   code: history_allow
default allow := false

allow if {
	_action_known
	readable
	not restricted
	not caller.suspended
	not data.regate.custom.history.deny
}

# METADATA
# title: What becomes of an item that is denied
# description: Its content is withheld and the turn goes on. `refuse` ends the request instead, and so does anything else.
# entrypoint: true
# custom:
#   code: history_on_deny
on_deny := "redact"

# METADATA
# title: What an item rests on
# description: |
#   `everything` that the model had read when it wrote the item; what of it is denied takes the item along. `cited` narrows that, for an answer
#   that cites, to what it cites. Anything else is `everything`. A custom rule may say so.
# entrypoint: true
# custom:
#   code: history_rests_on
rests_on := "everything" if not data.regate.custom.history.rests_on

rests_on := data.regate.custom.history.rests_on

# METADATA
# title: Why not
# description: For the audit record. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: history_deny_reasons
deny_reasons contains "unknown_action" if not _action_known

deny_reasons contains "tenant_suspended" if caller.suspended

deny_reasons contains "denied_by_custom_rule" if data.regate.custom.history.deny

deny_reasons contains "other_owner" if not readable

deny_reasons contains sprintf("label_restricted: %s", [label]) if {
	some label in input.item.labels
	label in labels.restricted
}

# METADATA
# title: Readable
# description: The item is the caller's own; or a custom rule grants using and reading it, within the tenant.
readable if owned

readable if {
	input.action in _reading
	input.item.tenant == input.principal.tenant
	data.regate.custom.history.grant == true
}

# METADATA
# title: Owned
# description: The item is the caller's own. A subject is somebody only together with the tenant.
owned if {
	input.item.tenant == input.principal.tenant
	input.item.owner == input.principal.id
}

# METADATA
# title: Restricted
# description: The item was made from something with a label that restricts this caller.
restricted if {
	some label in input.item.labels
	label in labels.restricted
}

_action_known if input.action in _reading

_action_known if input.action in _changing

_reading := {"conversation.read", "history.reuse", "response.list", "response.read"}

_changing := {"conversation.create", "conversation.delete", "conversation.update", "response.cancel", "response.delete"}
