"""`python -m regate_gateway` is the `regate` command (`cli/main.py`)."""

from regate_gateway.cli.main import main

if __name__ == "__main__":
    main(prog_name="regate")
