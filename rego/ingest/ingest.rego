# METADATA
# title: Ingestion
# description: |
#   Whether a file may become chunks of a store, and with which policy fields. That the store may be added to and the file read was decided
#   before, by their own rules. Only what is returned here is stamped; the client's attributes never are. A file that is in the store already is
#   decided in the same way when its attributes change; `input.attachment` is then its present stamp.
# scope: package
# schemas:
#   - input: schema.input.ingest
#   - input.principal: schema.input.principal
#   - input.store: schema.store
#   - input.document.file: schema.file
#   - input.attachment: schema.chunk
package regate.ingest

import data.regate.lib.caller
import data.regate.lib.sharing

# METADATA
# title: May the document be ingested as requested?
# description: |
#   A stamped file of the caller's tenant may, when everything requested is the caller's to grant and no custom rule denies it. One that is in
#   the store already may be stamped anew by whoever added it, and by the tenant's store_admin.
# entrypoint: true
# custom:
#   code: ingest_allow
default allow := false

allow if {
	_action_known
	caller.identified
	_file_stamped
	_changeable
	count(_faults) == 0
	not data.regate.custom.ingest.deny
}

# METADATA
# title: The stamp of every chunk of the document
# description: |
#   Defined only where ingesting is allowed. Tenant and owner are the caller's, and never change; level and labels are never weaker than the
#   file's. Sharing is the owner's to choose, and inherited from the file when somebody else ingests it. Whoever stamps anew what another added
#   changes nothing of its sharing and weakens neither level nor labels. Custom rules may add fields and change none.
# entrypoint: true
# custom:
#   code: ingest_stamp
stamp := object.union_n([_further, _sharing, {
	"tenant": input.principal.tenant,
	"owner": _owner,
	"level": max({sharing.level(_requested), input.document.file.level} | _levels_of_another),
	"labels": sort({label | some label in array.concat(sharing.labels(_requested), input.document.file.labels)} | _labels_of_another),
	"legal_hold": _held,
	"embargo_until": _embargoed,
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

reject_reasons contains "neither_owner_nor_store_admin" if not _changeable

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

_attached if "attachment" in object.keys(input)

_attachment_owned if {
	input.attachment.tenant == input.principal.tenant
	input.attachment.owner == input.principal.id
}

_of_another if {
	_attached
	not _attachment_owned
}

_changeable if not _of_another

_changeable if {
	input.attachment.tenant == input.principal.tenant
	"store_admin" in input.principal.roles
}

_owner := input.principal.id if not _attached

_owner := input.attachment.owner if _attached

_held := false if not _attached

_held := input.attachment.legal_hold if _attached

_embargoed := 0 if not _attached

_embargoed := input.attachment.embargo_until if _attached

_levels_of_another contains input.attachment.level if _of_another

_labels_of_another contains label if {
	_of_another
	some label in input.attachment.labels
}

_faults := sharing.faults(_requested, input.principal, sharing.requestable) | _unchosen

_unchosen contains sprintf("%s: is inherited from the file, which you do not own", [key]) if {
	not _file_owned
	not _of_another
	some key in _shares
}

_unchosen contains sprintf("%s: is for whoever added the file to say", [key]) if {
	_of_another
	some key in _shares
}

_shares := {key |
	some key, _ in _requested
	key in sharing.keys
}

_sharing := {key: input.attachment[key] | some key in sharing.keys} if _of_another

_sharing := {key: input.document.file[key] | some key in sharing.keys} if {
	not _of_another
	not _file_owned
}

_sharing := sharing.sharing(_requested, input.principal) if {
	not _of_another
	_file_owned
	not _kept_private
}

_sharing := sharing.sharing({"visibility": "private"}, input.principal) if {
	not _of_another
	_file_owned
	_kept_private
}

# A file that its owner keeps private stays so, until its owner says otherwise.
_kept_private if {
	input.document.file.visibility == "private"
	count(_shares) == 0
}
