package regate.guard_test

import data.regate.guard
import data.regate_fixtures as given

checked(changes) := object.union(given.asked("guard.check", given.ann, {"step": "input", "scores": {"injection": 0.1}, "labels": [], "spans": {}, "unavailable": []}), changes)

thresholds := {
	"input": {
		"scores": {"injection": {"flag": 0.5, "redact": 0.7, "block": 0.9}},
		"labels": {"pii": "redact", "slur": "flag", "weapon": "block"},
	},
	"output": {"scores": {}, "labels": {}},
}

# what is checked, what becomes of it, and why
cases := {
	"nothing found": [{}, "pass", set()],
	"a score below every threshold": [{"scores": {"injection": 0.49}}, "pass", set()],
	"a score that is flagged": [{"scores": {"injection": 0.5}}, "flag", {"score: injection"}],
	"a score that is redacted": [{"scores": {"injection": 0.7}}, "redact", {"score: injection"}],
	"a score that is blocked": [{"scores": {"injection": 0.9}}, "block", {"score: injection"}],
	"the highest score": [{"scores": {"injection": 1}}, "block", {"score: injection"}],
	"a score without a threshold": [{"scores": {"injection": 0, "other": 1}}, "pass", set()],
	"a label that is flagged": [{"labels": ["slur"]}, "flag", {"label: slur"}],
	"a label that is redacted": [{"labels": ["pii"]}, "redact", {"label: pii"}],
	"a label that is blocked": [{"labels": ["weapon"]}, "block", {"label: weapon"}],
	"a label that means nothing here": [{"labels": ["x"]}, "pass", set()],
	"the severest of two": [{"labels": ["slur", "pii"]}, "redact", {"label: slur", "label: pii"}],
	"the severest of three": [{"labels": ["slur", "pii", "weapon"]}, "block", {"label: slur", "label: pii", "label: weapon"}],
	"a score and a label": [{"scores": {"injection": 0.6}, "labels": ["pii"]}, "redact", {"score: injection", "label: pii"}],
	"another step": [{"step": "output", "scores": {}, "labels": ["pii"]}, "pass", set()],
	"an unknown step": [{"step": "thought"}, "block", {"unknown_step"}],
	"a score that was not measured": [{"scores": {}}, "block", {"score_missing: injection"}],
	"a score that was not measured, beside one that was": [{"scores": {"other": 0}}, "block", {"score_missing: injection"}],
	"a score of a guard that may be missing": [{"scores": {}, "unavailable": ["moderation"]}, "pass", set()],
	"a label beside a guard that is missing": [{"scores": {}, "labels": ["pii"], "unavailable": ["moderation"]}, "redact", {"label: pii"}],
	"a missing guard as text": [{"scores": {}, "unavailable": "moderation"}, "block", {"score_missing: injection"}],
	"a score as text": [{"scores": {"injection": "0.1"}}, "block", {"score_not_understood: injection", "score: injection"}],
	"a score that is null": [{"scores": {"injection": null}}, "block", {"score_not_understood: injection"}],
	"a score below 0": [{"scores": {"injection": -0.1}}, "block", {"score_not_understood: injection"}],
	"a score above 1": [{"scores": {"injection": 0, "other": 50}}, "block", {"score_not_understood: other"}],
	"scores as a list": [{"step": "output", "scores": []}, "block", {"scores: must be an object"}],
	"labels as text": [{"labels": "pii"}, "block", {"labels: must be a list of texts"}],
	"labels as an object": [{"labels": {"0": "x"}}, "block", {"labels: must be a list of texts"}],
	"a label that is no text": [{"labels": [1]}, "block", {"labels: must be a list of texts"}],
	"an unknown action": [{"action": "guard.skip"}, "block", {"unknown_action"}],
	"a caller without a name": [{"principal": object.union(given.ann, {"id": ""})}, "block", {"caller_not_identified"}],
}

test_there_are_cases if {
	count(cases) == 31
	count(needed) == 7
	count(doubtful) == 6
}

test_case[name] if {
	some name, [changes, expected, reasons] in cases
	question := object.union(object.remove(checked({}), object.keys(changes)), changes)
	guard.action == expected with input as question with data.regate.guard_thresholds as thresholds
	guard.deny_reasons == reasons with input as question with data.regate.guard_thresholds as thresholds
	given.agrees(expected == "pass", reasons)
}

needed := {"action", "principal", "principal/id", "principal/tenant", "step", "scores", "labels"}

test_blocked_without[path] if {
	some path in needed
	question := json.remove(checked({"step": "output"}), [path])
	guard.action == "block" with input as question with data.regate.guard_thresholds as thresholds
	count(guard.deny_reasons) > 0 with input as question with data.regate.guard_thresholds as thresholds
}

redacted := {
	"nothing": [{}, set()],
	"what is flagged or blocked": [{"scores": {"injection": 0.9}, "labels": ["slur", "weapon"]}, set()],
	"a score": [{"scores": {"injection": 0.7}}, {"injection"}],
	"a label": [{"labels": ["pii", "slur"]}, {"pii"}],
	"a score and a label": [{"scores": {"injection": 0.7}, "labels": ["pii"]}, {"injection", "pii"}],
}

test_taken_out[name] if {
	count(redacted) == 5
	some name, [changes, expected] in redacted
	question := object.union(object.remove(checked({}), object.keys(changes)), changes)
	guard.redact == expected with input as question with data.regate.guard_thresholds as thresholds
}

# Operators' data that slipped through every check must not let anything through.
doubtful := {
	"a threshold as text": {"scores": {"injection": {"block": "0.9"}}, "labels": {}},
	"a threshold that is null": {"scores": {"injection": {"block": null}}, "labels": {}},
	"a threshold that is no share": {"scores": {"injection": {"block": 90}}, "labels": {}},
	"a negative threshold": {"scores": {"injection": {"block": -1}}, "labels": {}},
	"an action that is none, by score": {"scores": {"injection": {"blok": 0.1}}, "labels": {}},
	"an action that is none, by label": {"scores": {}, "labels": {"pii": "blok"}},
}

test_blocked_under[name] if {
	some name, step in doubtful
	question := checked({"labels": ["pii"]})
	guard.action == "block" with input as question with data.regate.guard_thresholds as {"input": step}
	count(guard.deny_reasons) > 0 with input as question with data.regate.guard_thresholds as {"input": step}
}

test_a_custom_rule_may_block if {
	guard.action == "block" with input as checked({}) with data.regate.custom.guard.block as true
	guard.deny_reasons == {"custom_rule"} with input as checked({}) with data.regate.custom.guard.block as true
}

test_as_shipped_what_is_understood_passes[step] if {
	some step in ["input", "chunk", "tool_arguments", "tool_result", "output"]
	guard.action == "pass" with input as checked({"step": step, "labels": ["pii"]})
}
