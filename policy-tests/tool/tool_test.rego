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
	count(needed_for_calls) == 8
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

needed_for_calls := {
	"action", "principal", "principal/id", "principal/tenant",
	"tool", "tool/type", "tool/name", "tool/server_label",
}

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

# What a tool returned is used only by who could call it now.
test_a_result_is_used_by_who_could_call[name] if {
	some name, [principal, called_tool, reasons] in catalogued
	question := object.union(returned(principal, {"size": 5}), {"tool": called_tool})
	admitted := tool.admit_result with input as question with data.regate.tools as tools
	found := tool.deny_reasons with input as question with data.regate.tools as tools
	found == reasons
	given.agrees(admitted, reasons)
}

test_a_result_of_a_denied_tool_is_not_used if {
	question := object.union(returned(given.ann, {}), {"tool": function})
	not tool.admit_result with input as question with data.regate.denied_tools as denied_tools
	tool.deny_reasons == {"tool_denied"} with input as question with data.regate.denied_tools as denied_tools
}

# What the client runs needs no entry in the catalogue, and an entry restricts it.
client_run := {"apply_patch", "computer", "function", "local_shell", "shell", "tool_search"}

test_the_client_may_run[sprintf("%s (%s)", [kind, action])] if {
	some action in ["tool.call", "tool.list"]
	some kind in client_run
	offered := {"type": kind, "server_label": "", "name": kind, "arguments": {}, "side_effect": true}
	question := object.union(called(given.ann, offered), {"action": action})
	tool.allow with input as question
	restricted := {kind: {"type": kind, "tenants": {"acme": ["clerk"]}}}
	not tool.allow with input as question with data.regate.tools as restricted
	tool.deny_reasons == {"tool_not_granted"} with input as question with data.regate.tools as restricted
}

test_an_unknown_action_is_denied if {
	question := object.union(returned(given.ann, {}), {"action": "tool.install"})
	tool.allow == false with input as question
	tool.admit_result == false with input as question
	tool.deny_reasons == {"unknown_action"} with input as question
}

# The catalogue.

tools := {
	"calendar/book": {"type": "mcp", "tenants": {"acme": ["clerk"], "globex": ["everyone"]}, "needs_approval": true},
	"web": {"type": "web_search", "tenants": {"acme": ["everyone"]}, "needs_approval": false, "max_result_bytes": 5, "deadline_s": 20},
	"huge": {"type": "web_search", "tenants": {}, "needs_approval": false, "max_result_bytes": 9999999},
}

calendar := {"type": "mcp", "server_label": "calendar", "name": "book", "arguments": {}, "side_effect": false}

web := {"type": "web_search", "server_label": "", "name": "web", "arguments": {}, "side_effect": false}

catalogued := {
	"for the role it names": [clerk, calendar, set()],
	"for another role": [given.ann, calendar, {"tool_not_granted"}],
	"for everyone of a tenant": [given.mallory, calendar, set()],
	"for everyone of another tenant": [given.mallory, web, {"tool_not_granted"}],
	"without a server": [given.ann, web, set()],
	"by its name alone": [clerk, object.union(calendar, {"server_label": ""}), {"unknown_tool_type"}],
	"of another server": [clerk, object.union(calendar, {"server_label": "x"}), {"unknown_tool_type"}],
	"of another type": [clerk, object.union(calendar, {"type": "code"}), {"unknown_tool_type", "tool_not_granted"}],
	"a function of the same name": [given.ann, object.union(web, {"type": "function"}), {"tool_not_granted"}],
	"of a server whose label is no text": [clerk, object.union(calendar, {"server_label": 1}), {"unknown_tool_type", "tool_denied"}],
	"of a server, with a name that is no text": [clerk, object.union(calendar, {"name": 1}), {"unknown_tool_type", "tool_denied"}],
}

test_there_are_catalogued_cases if {
	count(catalogued) == 11
	count(denials) == 4
	count(approvals) == 8
}

test_catalogued[sprintf("%s (%s)", [name, action])] if {
	some action in ["tool.call", "tool.list"]
	some name, [principal, called_tool, reasons] in catalogued
	question := object.union(called(principal, called_tool), {"action": action})
	allowed := tool.allow with input as question with data.regate.tools as tools
	found := tool.deny_reasons with input as question with data.regate.tools as tools
	found == reasons
	given.agrees(allowed, reasons)
}

# A denial by name or by server and name holds until each denial is lifted.
denials := {
	"by name": [{"book": "boss"}, {"tool_denied"}],
	"by server and name": [{"calendar/book": "boss"}, {"tool_denied"}],
	"by both, one of them lifted": [{"book": "clerk", "calendar/book": "boss"}, {"tool_denied"}],
	"by both, both lifted": [{"book": "clerk", "calendar/book": "clerk"}, set()],
}

test_denials[name] if {
	some name, [listed, reasons] in denials
	question := called(clerk, calendar)
	allowed := tool.allow with input as question with data.regate.tools as tools with data.regate.denied_tools as listed
	found := tool.deny_reasons with input as question with data.regate.tools as tools with data.regate.denied_tools as listed
	found == reasons
	given.agrees(allowed, reasons)
}

pages := {
	"of a host that nobody denies": [given.ann, "example.org", set()],
	"of a denied domain": [given.ann, "bad.example", {"domain_denied"}],
	"below a denied domain": [given.ann, "www.bad.example", {"domain_denied"}],
	"of a host that only ends so": [given.ann, "notbad.example", set()],
	"of a denied domain, for the role that lifts it": [clerk, "www.bad.example", set()],
	"of a host that is no text": [given.ann, ["bad.example"], {"domain_denied"}],
	"of no host that can be told": [given.ann, null, {"domain_denied"}],
}

test_there_are_pages if count(pages) == 7

test_page[name] if {
	some name, [principal, host, reasons] in pages
	question := returned(principal, {"host": host})
	admitted := tool.admit_result with input as question with data.regate.denied_domains as {"bad.example": "clerk"}
	found := tool.deny_reasons with input as question with data.regate.denied_domains as {"bad.example": "clerk"}
	found == reasons
	given.agrees(admitted, reasons)
}

approvals := {
	"a tool that changes nothing": [search, false, false],
	"a tool that changes something": [function, false, true],
	"a tool that does not say": [object.remove(search, {"side_effect"}), false, true],
	"a tool that says something else": [object.union(search, {"side_effect": "no"}), false, true],
	"a tool that the catalogue wants approved": [calendar, false, true],
	"a tool that changes something, and the catalogue wants no approval": [object.union(web, {"side_effect": true}), false, false],
	"such a tool that a custom rule wants approved": [object.union(web, {"side_effect": true}), true, true],
	"a tool that a custom rule wants approved": [search, true, true],
}

test_approvals[name] if {
	some name, [called_tool, approve, needed] in approvals
	found := tool.needs_approval with input as called(given.ann, called_tool)
		with data.regate.tools as tools
		with data.regate.custom.tool.approve as approve
	found == needed
}

test_obligations if {
	tool.obligations == {"max_result_bytes": 4194304} with input as called(given.ann, search) with data.regate.tools as tools
	tool.obligations == {"max_result_bytes": 5, "deadline_s": 20} with input as called(given.ann, web) with data.regate.tools as tools
	huge := object.union(web, {"name": "huge"})
	tool.obligations == {"max_result_bytes": 4194304} with input as called(given.ann, huge) with data.regate.tools as tools
}

test_obligations_of_the_catalogue_and_of_custom_rules if {
	listed := object.union_n([tools.web, {"max_arguments": {"top": 5}, "set_arguments": {"tenant": "acme"}, "redact": ["salary"], "labels": ["hr"]}])
	custom := {"set_arguments": {"site": "public"}, "deadline_s": 3, "max_result_bytes": 4}
	found := tool.obligations with input as called(given.ann, web)
		with data.regate.tools as {"web": listed}
		with data.regate.custom.tool.obligations as custom
	found == {
		"deadline_s": 3,
		"labels": ["hr"],
		"max_arguments": {"top": 5},
		"max_result_bytes": 4,
		"redact": ["salary"],
		"set_arguments": {"site": "public", "tenant": "acme"},
	}
}

test_custom_rules_do_not_raise_the_size_of_results if {
	tool.obligations == {"max_result_bytes": 4194304} with input as called(given.ann, search)
		with data.regate.custom.tool.obligations as {"max_result_bytes": 9999999}
}

test_a_result_is_no_larger_than_the_catalogue_says if {
	largest := object.union(returned(given.ann, {"size": 5}), {"tool": web})
	tool.admit_result with input as largest with data.regate.tools as tools
	larger := object.union(returned(given.ann, {"size": 6}), {"tool": web})
	not tool.admit_result with input as larger with data.regate.tools as tools
	tool.deny_reasons == {"result_too_large"} with input as larger with data.regate.tools as tools
}

test_a_custom_rule_may_deny_calls_and_results if {
	not tool.allow with input as called(given.ann, search) with data.regate.custom.tool.deny as true
	tool.deny_reasons == {"denied_by_custom_rule"} with input as called(given.ann, search) with data.regate.custom.tool.deny as true
	not tool.admit_result with input as returned(given.ann, {}) with data.regate.custom.tool.deny as true
	tool.deny_reasons == {"denied_by_custom_rule"} with input as returned(given.ann, {}) with data.regate.custom.tool.deny as true
}

offered(principal, tools_offered) := given.asked("tool.list", principal, {"tools": tools_offered})

shown(principal, tools_offered) := names if {
	names := tool.visible with input as offered(principal, tools_offered)
		with data.regate.tools as tools
		with data.regate.denied_tools as denied_tools
}

test_the_model_sees_what_could_be_called if {
	shown(given.ann, [search, function, calendar, web]) == {"file_search", "web"}
	shown(clerk, [search, function, calendar, web]) == {"file_search", "book", "calendar/book", "web"}
	shown(given.ann, []) == set()
	shown(nobody, [search]) == set()
	shown(clerk, [calendar]) == {"calendar/book"}
}

test_a_name_that_two_tools_share_is_shown_only_if_both_may_be_seen if {
	twin := object.union(search, {"name": "book"})
	tool.visible == {"book"} with input as offered(given.ann, [twin])
	tool.visible == set() with input as offered(given.ann, [twin, object.union(function, {"type": "x"})])
	tool.visible == {"book"} with input as offered(given.ann, [twin, calendar]) with data.regate.tools as tools
}

test_no_tools_no_names if tool.visible == set() with input as json.remove(offered(given.ann, []), ["tools"])
