"""`python -m regate_gateway` is the `regate` command (`cli.py`)."""

from regate_gateway.cli import main

if __name__ == "__main__":
    main(prog_name="regate")
