"""What becomes of queries that are to be rewritten: a model of the operator writes them anew, or the fixed
rule of `query_rewriting.py` does where the operator names none.

The model is shown one query at a time and nothing else: nothing of the store, of what was found, of the
caller, or of another query. Nothing is kept, so what a query becomes depends on no earlier one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from regate_orchestrator.concurrency import all_settled
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.model_calls.traced import begin_model_call
from regate_orchestrator.ports import QueryRewriter, RewrittenQuery
from regate_orchestrator.principal import Context
from regate_orchestrator.quota.metering import NOTHING_USED, Spending, Used
from regate_orchestrator.retrieval.query_rewriting import rewritten
from regate_orchestrator.tracing.spans import INPUT_TOKENS, OUTPUT_TOKENS, error_type

_SHOWN: Final = 8_000
"""Characters of a query that the model is shown at most: about 2,000 tokens. A longer one is no question."""


class QueryRewriting:
    """Rewrites queries, by a model where there is one."""

    def __init__(self, rewriter: QueryRewriter | None, metrics: Metrics | None = None) -> None:
        self._rewriter = rewriter
        metrics = metrics or Metrics()
        self._outcomes = metrics.counter(
            "regate_query_rewritings",
            "Queries for a model to rewrite: those that it wrote anew, those of which it made no query, "
            "those that are too long for it, and those for which it failed.",
            ("outcome",),
            rows=[("written",), ("unusable",), ("too_long",), ("failed",)],
        )
        self._tokens = metrics.counter(
            "regate_query_rewriting_tokens",
            "Tokens that rewriting took, as the upstream counted them.",
            ("direction",),
            rows=[("input",), ("output",)],
        )

    @property
    def model(self) -> str | None:
        """Return the name of the model that rewrites; None where the rule does."""
        return None if self._rewriter is None else self._rewriter.model

    @staticmethod
    def shown(queries: Sequence[str]) -> list[str]:
        """Return those of the queries that a model would be shown: each once, and none that is too long."""
        return [query for query in dict.fromkeys(queries) if len(query) <= _SHOWN]

    async def of(
        self, context: Context, queries: Sequence[str], spending: Spending | None = None
    ) -> list[str]:
        """Return each query rewritten: by the rule where there is no model, and for a query that is too long
        for it or of which it makes none. What the model took is what is spent.

        The caller must have been permitted to search. Raises `QueryRewritingUnavailable` when the model does
        not answer for one of them.
        """
        if self._rewriter is None:
            return [rewritten(query) for query in queries]
        shown = self.shown(queries)
        written, failures = await all_settled(
            {query: self._asked(context, self._rewriter, query) for query in shown}
        )
        used = self._count(list(written.values()))
        if spending is not None:
            await spending.used(used)
        self._outcomes.add("too_long", count=len(set(queries)) - len(shown))
        self._outcomes.add("failed", count=len(failures))
        if failures:
            raise failures[0]
        anew = {query: one.text for query, one in written.items()}
        return [anew.get(query) or rewritten(query) for query in queries]

    async def _asked(self, context: Context, rewriter: QueryRewriter, query: str) -> RewrittenQuery:
        if context.span is None:
            return await rewriter.rewrite(query)
        span = begin_model_call(
            context.span, context, "chat", upstream=rewriter.upstream, model=rewriter.model, stream=False
        )
        error = ""
        try:
            written = await rewriter.rewrite(query)
            span.note({INPUT_TOKENS: written.input_tokens, OUTPUT_TOKENS: written.output_tokens})
            return written
        except BaseException as raised:
            error = error_type(raised)
            raise
        finally:
            span.end(error=error)

    def _count(self, answers: Sequence[RewrittenQuery]) -> Used:
        usable = sum(one.text is not None for one in answers)
        self._outcomes.add("written", count=usable)
        self._outcomes.add("unusable", count=len(answers) - usable)
        used = sum((Used(one.input_tokens, one.output_tokens) for one in answers), NOTHING_USED)
        self._tokens.add("input", count=used.input_tokens)
        self._tokens.add("output", count=used.output_tokens)
        return used
