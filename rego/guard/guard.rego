# METADATA
# title: Guards
# description: |
#   What becomes of something that guards looked at: what the user sent, a chunk, the arguments or the result of a tool, or the answer. They
#   give scores, labels and the number of places, never text; what follows from them is decided here.
# scope: package
# schemas:
#   - input: schema.input.guard
#   - input.principal: schema.input.principal
#   - data.regate.guard_thresholds: schema.operators.guard_thresholds
package regate.guard

import data.regate.lib.caller

# METADATA
# title: What becomes of it
# description: |
#   The severest action that a score or a label calls for: block, redact, flag, else pass. What is not understood is blocked, and so is what
#   lacks a score that has a threshold.
# entrypoint: true
# custom:
#   code: guard_action
default action := "block"

action := "pass" if {
	count(_faults) == 0
	count(_called_for) == 0
}

action := _severest(_called_for) if count(_faults) == 0

# METADATA
# title: Why it does not pass
# description: For the audit record. Empty exactly when it passes.
# entrypoint: true
# custom:
#   code: guard_deny_reasons
deny_reasons contains fault if some fault in _faults

deny_reasons contains reason if some reason, _ in _findings

# METADATA
# title: What is taken out
# description: |
#   The names of the scores and labels that call for it. Asked when the action is redact: the places that guards found under these names are
#   taken out, and the whole text where there are none.
# entrypoint: true
# custom:
#   code: guard_redact
redact contains name if some name, "redact" in _by_score

redact contains label if some label, "redact" in _by_label

_called_for := {called_for | some called_for in _findings}

# Reasons, and the action that each calls for.
_findings[sprintf("score: %s", [name])] := called_for if some name, called_for in _by_score

_findings[sprintf("label: %s", [label])] := called_for if some label, called_for in _by_label

_by_score[name] := called_for if {
	some name, limits in _thresholds.scores
	called_for := _severest({called_for | some called_for, limit in limits; input.scores[name] >= limit})
}

_by_label[label] := called_for if {
	some label, called_for in _thresholds.labels
	label in input.labels
}

_findings["custom_rule"] := "block" if data.regate.custom.guard.block

# An action that is none is taken for the severest.
_severest(actions) := "block" if count(actions - {"flag", "redact"}) > 0

_severest(actions) := "redact" if {
	count(actions - {"flag", "redact"}) == 0
	"redact" in actions
}

_severest({"flag"}) := "flag"

_faults contains "unknown_action" if not _action_known

_faults contains "caller_not_identified" if not caller.identified

_faults contains "unknown_step" if not _thresholds

_faults contains "scores: must be an object" if not _scored

_faults contains "labels: must be a list of texts" if not _labelled

_faults contains sprintf("score_not_understood: %s", [name]) if {
	some name, score in input.scores
	not _is_share(score)
}

_faults contains sprintf("threshold_not_understood: %s", [name]) if {
	some name, limits in _thresholds.scores
	some limit in limits
	not _is_share(limit)
}

_faults contains sprintf("score_missing: %s", [name]) if {
	not _excused
	some name, _ in _thresholds.scores
	not _measured(name)
}

_action_known if input.action == "guard.check"

_thresholds := data.regate.guard_thresholds[input.step]

_scored if is_object(input.scores)

_labelled if {
	is_array(input.labels)
	every label in input.labels {
		is_string(label)
	}
}

# Of a guard that gave no answer, and that the operator lets be missing then, nothing was measured.
_excused if {
	is_array(input.unavailable)
	count(input.unavailable) > 0
}

_measured(name) if {
	some measured, _ in input.scores
	measured == name
}

# In Rego's order of types nothing but numbers lies between two numbers.
_is_share(value) if {
	value >= 0
	value <= 1
}
