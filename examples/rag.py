"""Ask a question of a document, with the official SDK and nothing of Regate's.

make serve UPSTREAM=http://127.0.0.1:11434/v1
export OPENAI_API_KEY=$(.venv/bin/regate token --sub alice --tenant acme --team hr)
python examples/rag.py handbook.md "How many days of leave do we have?" llama3.2
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from openai import OpenAI


def main(document: str, question: str, model: str) -> None:
    """Upload the document, ask the question of it, and print the answer with what it cites."""
    client = OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"))
    store = client.vector_stores.create(name="example")
    with Path(document).open("rb") as file:
        client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=file)
    tools = [{"type": "file_search", "vector_store_ids": [store.id]}]
    with client.responses.stream(model=model, input=question, tools=tools) as stream:  # type: ignore[arg-type]
        for event in stream:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
        answer = stream.get_final_response()
    cited = {
        note.filename
        for item in answer.output
        if item.type == "message"
        for note in item.content[0].annotations
    }  # type: ignore[union-attr]
    print("\ncites:", ", ".join(sorted(cited)) or "nothing")


if __name__ == "__main__":
    main(*sys.argv[1:4])
