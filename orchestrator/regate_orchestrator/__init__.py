"""The pure core of Regate: values, decisions, the filter algebra, the Responses machine, and the ports it
needs.

Five nouns carry the design:

- A *principal* asks. It is a value, handed on as an argument; nothing here reads an identity from anywhere
  else.
- The *enforcer* (`authz/enforcer.py`) is the only place where a decision is requested, and it records each
  before it takes effect.
- A *filter plan* (`filters/expression.py`) says which rows of a store a principal may see: everything,
  nothing, or those matching an expression.
- The *machine* (`responses/machine.py`) says what comes next in a response: `advance(state, event) -> (state,
  commands)`.
- The *driver* (`responses/driver.py`) performs those commands through the *ports* (`ports/`), and is the only
  one to do so.

Nothing in this package imports an adapter or the gateway, and nothing but the driver, `retrieval/search.py`,
`documents/ingestion.py` and `authz/enforcer.py` awaits a port.
"""
