"""The rule by which a query is rewritten (`rewrite_query`) where no model does it (`model_rewriting.py`): the
words that ask, rather than say what for, are taken off.

No model is called: what is searched can be told beforehand, costs nothing, and shows the query to no backend.
Meaning is never added.
"""

from __future__ import annotations

import re
from typing import Final

_BLANKS: Final = re.compile(r"\s+")
_FILLERS: Final = re.compile(
    r"""(?:
        (?:hi|hello|hey|please|so|ok|okay|well)
      | (?:can|could|would|will)\s+you\s+(?:please\s+)?(?:tell|show|give|explain|find|help)
        (?:\s+(?:me|us))?(?:\s+(?:to|with|about|out|what|how))*
      | (?:please\s+)?(?:tell|show|give|explain|find)\s+(?:me|us)(?:\s+(?:about|out))?
      | (?:i|we)\s+(?:would\s+like|want|need)\s+to\s+(?:know|find\s+out|understand)(?:\s+about)?
      | (?:i|we)\s+(?:am|are|was|were)\s+(?:wondering|looking\s+for)
      | do\s+you\s+know
      | what(?:'s|\s+(?:is|are|was|were|does|do))
      | who(?:'s|\s+(?:is|are|was|were))
      | where(?:'s|\s+(?:is|are|was|were))
      | how\s+(?:do|does|can|could|should|would)\s+(?:i|we|one|you)
      | (?:is|are)\s+there(?:\s+any)?
    )(?=[\s,.:!?]|$)[\s,.:!?]*""",
    re.IGNORECASE | re.VERBOSE,
)
_MARKS: Final = " ?!.,;:"
_COURTESY: Final = re.compile(r"(?<=[ ,])(?:please|thanks|thank you)\Z", re.IGNORECASE)
_LONGEST_COURTESY: Final = len(" thank you")


def rewritten(query: str) -> str:
    """Return the query in one line without what asks at its beginning and end; as it was, in one line,
    when nothing else is in it. Takes time in proportion to its length.
    """
    plain = _BLANKS.sub(" ", query).strip()
    rest = plain.rstrip(_MARKS)
    if courtesy := _COURTESY.search(rest, max(0, len(rest) - _LONGEST_COURTESY)):
        rest = rest[: courtesy.start()].rstrip(" ,")
    begin = 0
    while (asks := _FILLERS.match(rest, begin)) is not None:
        begin = asks.end()
    return rest[begin:] or plain
