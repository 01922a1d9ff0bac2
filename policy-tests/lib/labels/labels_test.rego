package regate.lib.labels_test

import data.regate.lib.labels

deny_labels := {"hr-only": "hr", "board": "director"}

cases := {
	"no role": [[], {"hr-only", "board"}],
	"a role that lifts nothing": [["editor"], {"hr-only", "board"}],
	"a role that lifts one": [["hr"], {"board"}],
	"both roles": [["director", "hr"], set()],
	"roles that are no list": ["hr", {"hr-only", "board"}],
}

test_there_are_cases if count(cases) == 5

test_case[name] if {
	some name, [roles, restricted] in cases
	labels.restricted == restricted with input as {"principal": {"roles": roles}} with data.regate.deny_labels as deny_labels
}

test_a_missing_principal_is_restricted_by_all if {
	labels.restricted == {"hr-only", "board"} with input as {} with data.regate.deny_labels as deny_labels
}

test_a_label_that_no_role_lifts_restricts_everybody if {
	labels.restricted == {"void"} with input as {"principal": {"roles": ["hr"]}} with data.regate.deny_labels as {"void": null}
}
