"""What is listed is listed in the order in which it was made, not by seconds and then by chance."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column

revision = "ordinals"
down_revision = "sweeps"

_LISTED = {
    "files": ("id", [["tenant"]]),
    "vector_stores": ("id", [["tenant"], ["shared"]]),
    "attachments": ("file_id", [["store_id", "tenant"]]),
    "responses": ("id", [["tenant"]]),
    "prompts": ("id", [["tenant"]]),
}


def upgrade(op: Operations) -> None:
    """Number the rows that are there as they were listed until now."""
    for table, (identifier, floors) in _LISTED.items():
        op.add_column(table, Column("ordinal", BigInteger))
        key = ", ".join(dict.fromkeys(["id"] if identifier == "id" else ["store_id", identifier]))
        same = " AND ".join(f"n.{column} = {table}.{column}" for column in key.split(", "))
        op.execute(
            # Names of ours
            f"UPDATE {table} SET ordinal = n.ordinal FROM (SELECT {key}, ROW_NUMBER() OVER (ORDER BY "
            f"created_at, {key}) AS ordinal"
            f" FROM {table}) AS n WHERE {same}"
        )
        for floor in floors:
            op.drop_index(f"ix_{table}_{'_'.join([*floor, 'created_at', identifier])}", table)
            op.create_index(None, table, [*floor, "ordinal"])
        op.create_index(None, table, ["ordinal"])
