package regate.tool_test

import data.regate.tool
import data.regate_fixtures as given

search := {"type": "file_search", "server_label": "", "name": "file_search", "arguments": {"query": "leave"}, "side_effect": false}

function := {"type": "function", "server_label": "", "name": "book", "arguments": {}, "side_effect": true}

called(principal, called_tool) := given.asked("tool.call", principal, {"tool": called_tool, "turn": {"index": 0, "calls_so_far": 0}})

returned(principal, result) := given.asked("tool.result", principal, {
	"tool": search,
	"result": object.union({"mime": "text/plain", "size": 10, "labels": []}, result),
})

denied_tools := {"book": "clerk"}

clerk := object.union(given.ann, {"roles": ["clerk"]})

nobody := object.union(given.ann, {"id": ""})

calls := {
	"retrieval": [given.ann, search, set()],
	"a denied function": [given.ann, function, {"tool_denied"}],
	"a denied function, for the role that lifts it": [clerk, function, set()],
	"another function": [given.ann, object.union(function, {"name": "cook"}), set()],
	"a tool of another type": [given.ann, object.union(search, {"type": "mcp"}), {"unknown_tool_type"}],
	"a tool whose name is no text": [given.ann, object.union(search, {"name": ["book"]}), {"tool_denied"}],
	"a caller without a name": [nobody, search, {"caller_not_identified"}],
}

results := {
	"plain": [given.ann, {}, set()],
	"with labels that restrict nobody": [given.ann, {"labels": ["x"]}, set()],
	"with a label that restricts her": [given.ann, {"labels": ["x", "hr-only"]}, {"label_restricted: hr-only"}],
	"with a label that her role lifts": [object.union(given.ann, {"roles": ["hr"]}), {"labels": ["hr-only"]}, set()],
	"with labels that are no list": [given.ann, {"labels": "x"}, {"labels_unknown"}],
	"with labels as an object": [given.ann, {"labels": {"0": "x"}}, {"labels_unknown"}],
	"of the greatest size": [given.ann, {"size": 4194304}, set()],
	"too large": [given.ann, {"size": 4194305}, {"result_too_large"}],
	"of a size that is no number": [given.ann, {"size": null}, {"result_too_large"}],
	"for a caller without a name": [nobody, {}, {"caller_not_identified"}],
}

test_there_are_cases if {
	count(calls) == 7
	count(results) == 10
	count(needed_for_calls) == 7
	count(needed_for_results) == 7
}

test_call[name] if {
	some name, [principal, called_tool, reasons] in calls
	question := called(principal, called_tool)
	allowed := tool.allow with input as question with data.regate.denied_tools as denied_tools
	found := tool.deny_reasons with input as question with data.regate.denied_tools as denied_tools
	found == reasons
	given.agrees(allowed, reasons)
	not tool.admit_result with input as question with data.regate.denied_tools as denied_tools
}

test_result[name] if {
	some name, [principal, result, reasons] in results
	question := returned(principal, result)
	admitted := tool.admit_result with input as question with data.regate.deny_labels as given.deny_labels
	found := tool.deny_reasons with input as question with data.regate.deny_labels as given.deny_labels
	found == reasons
	given.agrees(admitted, reasons)
	not tool.allow with input as question with data.regate.deny_labels as given.deny_labels
}

needed_for_calls := {"action", "principal", "principal/id", "principal/tenant", "tool", "tool/type", "tool/name"}

test_no_call_without[path] if {
	some path in needed_for_calls
	question := json.remove(called(given.ann, search), [path])
	tool.allow == false with input as question
	count(tool.deny_reasons) > 0 with input as question
}

needed_for_results := {"action", "principal", "principal/id", "principal/tenant", "result", "result/size", "result/labels"}

test_no_result_without[path] if {
	some path in needed_for_results
	question := json.remove(returned(given.ann, {}), [path])
	tool.admit_result == false with input as question
	count(tool.deny_reasons) > 0 with input as question
}

test_what_changes_something_is_approved_first if {
	tool.needs_approval == true with input as called(clerk, function)
	tool.needs_approval == false with input as called(given.ann, search)
}

# Whatever belongs to the other action gives no reason.
test_a_call_is_decided_without_its_result if {
	question := object.union(called(given.ann, search), {"result": {"mime": "", "size": 4194305, "labels": ["hr-only"]}})
	tool.allow with input as question with data.regate.deny_labels as given.deny_labels
	tool.deny_reasons == set() with input as question with data.regate.deny_labels as given.deny_labels
}

test_a_result_is_decided_without_its_call if {
	question := object.union(returned(given.ann, {}), {"tool": {"type": "mcp", "name": "book"}})
	tool.admit_result with input as question with data.regate.denied_tools as denied_tools
	tool.deny_reasons == set() with input as question with data.regate.denied_tools as denied_tools
}

test_an_unknown_action_is_denied if {
	question := object.union(returned(given.ann, {}), {"action": "tool.install"})
	tool.allow == false with input as question
	tool.admit_result == false with input as question
	tool.deny_reasons == {"unknown_action"} with input as question
}
