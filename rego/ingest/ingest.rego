# METADATA
# title: Ingestion
# description: |
#   Whether a file may become chunks of a store, and with which policy fields. That the store may be added to and the file read was decided
#   before, by their own rules. Only what is returned here is stamped; the client's attributes never are.
# scope: package
# schemas:
#   - input: schema.input.ingest
#   - input.principal: schema.input.principal
#   - input.store: schema.store
#   - input.document.file: schema.file
package regate.ingest

import data.regate.lib.caller
import data.regate.lib.sharing

# METADATA
# title: May the document be ingested as requested?
# description: A stamped file of the caller's tenant may, when everything requested is the caller's to grant and no custom rule denies it.
# entrypoint: true
# custom:
#   code: ingest_allow
default allow := false

allow if {
	_action_known
	caller.identified
	_file_stamped
	count(_faults) == 0
	not data.regate.custom.ingest.deny
}

# METADATA
# title: The stamp of every chunk of the document
# description: |
#   Defined only where ingesting is allowed. Tenant and owner are the caller's; level and labels are never weaker than the file's. Sharing is
#   the owner's to choose, and inherited from the file when somebody else ingests it. Custom rules may add fields and change none.
# entrypoint: true
# custom:
#   code: ingest_stamp
stamp := object.union_n([_further, _sharing, {
	"tenant": input.principal.tenant,
	"owner": input.principal.id,
	"level": max({sharing.level(_requested), input.document.file.level}),
	"labels": sort({label | some label in array.concat(sharing.labels(_requested), input.document.file.labels)}),
	"legal_hold": false,
	"embargo_until": 0,
}]) if {
	allow
}

# METADATA
# title: Why not
# description: In words for the caller, who may know of the file. Empty exactly when the rule allows.
# entrypoint: true
# custom:
#   code: ingest_reject_reasons
reject_reasons contains "unknown_action" if not _action_known

reject_reasons contains "caller_not_identified" if not caller.identified

reject_reasons contains "file_not_stamped_for_this_tenant" if not _file_stamped

reject_reasons contains fault if some fault in _faults

reject_reasons contains "denied_by_custom_rule" if data.regate.custom.ingest.deny

default _further := {}

_further := data.regate.custom.ingest.stamp if is_object(data.regate.custom.ingest.stamp)

_action_known if input.action == "ingest.document"

_file_stamped if {
	input.document.file.tenant == input.principal.tenant
	is_number(input.document.file.level)
	is_array(input.document.file.labels)
}

_file_owned if {
	input.document.file.tenant == input.principal.tenant
	input.document.file.owner == input.principal.id
}

_requested := object.get(input, ["document", "requested"], {})

_faults := sharing.faults(_requested, input.principal, sharing.requestable) if _file_owned

_faults := sharing.faults(_requested, input.principal, sharing.requestable) | _foreign_requests if not _file_owned

_foreign_requests := {sprintf("%s: is inherited from the file, which you do not own", [key]) | some key in _shares}

_shares := {key |
	some key, _ in _requested
	key in sharing.keys
}

_sharing := {key: input.document.file[key] | some key in sharing.keys} if not _file_owned

_sharing := sharing.sharing(_requested, input.principal) if {
	_file_owned
	not _kept_private
}

_sharing := sharing.sharing({"visibility": "private"}, input.principal) if {
	_file_owned
	_kept_private
}

# A file that its owner keeps private stays so, until its owner says otherwise.
_kept_private if {
	input.document.file.visibility == "private"
	count(_shares) == 0
}
