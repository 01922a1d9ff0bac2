"""What to write instead of what OPA refuses: its messages say what its parser or compiler met, and
seldom what was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CLOSE: Final = "close what this rule opens with `}`, `)` or `]`"
_RULE: Final = (
    "write a rule as its name, then `if`, and its conditions: `deny if input.chunk.level > 3`, or one "
    "condition a line inside of `{ }`"
)
_ADVICE: Final[Mapping[str, str]] = {
    "is unsafe": "say what it is before it is used, with `x := …` or `some x in …`; a text stands in quotes",
    "undefined function": "correct its name, or write the rule",
    " unused": "leave it out",
    "is recursive": "leave out what leads back to it",
    "unexpected eof token": f"{_CLOSE}, and a condition after `if`",
    "non-terminated expression": _CLOSE,
    "non-terminated string": (
        'close the text with `"` on its line; one of several lines stands between backquotes'
    ),
    "unexpected } token": "leave this `}` out, or open it with `{`",
    "unexpected and token": "Rego has no `&&`: write each condition on a line of its own, inside of `{ }`",
    "unexpected or token": "Rego has no `||`: write each alternative as a rule of the same name",
    "illegal ! character": "Rego has no `!`: write `not` before a condition, or `!=`",
    "illegal token": 'write texts as "text", and nothing but Rego around them',
    "unexpected eq token": "compare with `==`",
    "unexpected not keyword": "write `not` once; put what is negated into a rule of its own",
    "var cannot be used for rule name": _RULE,
    "number cannot be used for rule name": _RULE,
    "rule name conflicts with built-in function": _RULE,
    "`if` keyword is required before rule body": "write `if` before `{`",
    "`if` keyword is required before function body": "write `if` before `{`",
    "`contains` keyword is required for partial set rules": (
        "write `name contains x if { … }` in place of `name[x] { … }`"
    ),
}
"""What to write instead, by what is part of OPA's message."""


def advised(message: str) -> str:
    """Return OPA's message with what to write instead, where that is known."""
    advice = next((words for part, words in _ADVICE.items() if part in message), None)
    return message if advice is None else f"{message}; {advice}"
