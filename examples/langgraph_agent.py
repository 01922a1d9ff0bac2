"""A LangGraph agent with a tool of its own beside the gateway's file search.

make serve UPSTREAM=http://127.0.0.1:11434/v1
export OPENAI_API_KEY=$(.venv/bin/regate token --sub alice --tenant acme --team hr)
pip install langgraph langchain-openai
python examples/langgraph_agent.py handbook.md "How many days of leave are left?" llama3.2
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from openai import OpenAI

GATEWAY = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")


@tool
def days_taken(person: str) -> int:
    """Return how many days of leave a person has taken this year."""
    return {"alice": 12, "bob": 7}.get(person.lower(), 0)


def main(document: str, question: str, model: str) -> None:
    """Upload the document, let the agent work on the question with both tools, and print every step."""
    client = OpenAI(base_url=GATEWAY)
    store = client.vector_stores.create(name="example")
    with Path(document).open("rb") as file:
        client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=file)
    search = {"type": "file_search", "vector_store_ids": [store.id]}
    chat = ChatOpenAI(model=model, base_url=GATEWAY, use_responses_api=True).bind_tools([days_taken, search])

    def think(state: MessagesState) -> MessagesState:
        return {"messages": [chat.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([days_taken]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    for step in graph.compile().stream({"messages": [("user", question)]}, stream_mode="updates"):
        for update in step.values():
            for message in update["messages"]:
                calls = message.tool_calls if isinstance(message, AIMessage) else ()
                print(
                    f"{message.type}: {message.text}", *(f"{call['name']}({call['args']})" for call in calls)
                )


if __name__ == "__main__":
    main(*sys.argv[1:4])
