"""A CrewAI crew of two: one finds what a document says with the gateway's search, the other writes it up.

make serve UPSTREAM=http://127.0.0.1:11434/v1
export OPENAI_API_KEY=$(.venv/bin/regate token --sub alice --tenant acme --team hr)
pip install crewai
python examples/crewai_crew.py handbook.md "How many days of leave do we have?" llama3.2
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from openai import OpenAI

GATEWAY = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")


def main(document: str, question: str, model: str) -> None:
    """Upload the document, let the crew work on the question, and print its report."""
    client = OpenAI(base_url=GATEWAY)
    store = client.vector_stores.create(name="example")
    with Path(document).open("rb") as file:
        client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=file)

    @tool("search")
    def search(query: str) -> str:
        """Find what the document says of something."""
        found = client.vector_stores.search(store.id, query=query, max_num_results=3)
        return "\n".join(part.text for hit in found for part in hit.content) or "Nothing was found."

    # The provider's name tells CrewAI which protocol to speak; the gateway sees only what follows it.
    llm = LLM(
        model=f"openai/{model}", base_url=GATEWAY, api_key=os.environ["OPENAI_API_KEY"], api="responses"
    )
    reader = Agent(
        role="Reader",
        goal="Find what documents say.",
        backstory="You quote, and never guess.",
        tools=[search],
        llm=llm,
    )
    writer = Agent(
        role="Writer", goal="Write short answers.", backstory="You write for busy people.", llm=llm
    )
    find = Task(
        description=f"Use search and answer: {question}",
        expected_output="The passages that answer it.",
        agent=reader,
    )
    write = Task(
        description="Write the answer in one sentence.",
        expected_output="One sentence.",
        agent=writer,
        context=[find],
    )
    print(Crew(agents=[reader, writer], tasks=[find, write]).kickoff().raw)


if __name__ == "__main__":
    main(*sys.argv[1:4])
