"""Newest first, by the index that leads there, whatever PostgreSQL believes about who sent what when.

`WHERE project_id = 7 ORDER BY id DESC LIMIT 51` may be answered by walking the primary key back from the newest row of
all: quick where the project's rows are spread evenly, and the whole table long where they are older than
another's bulk (measured: 0.8 s at 3 million rows, against 0.05 ms). `WHERE project_id = ANY(ARRAY[7]) ORDER BY project_id
DESC, id DESC` means the same and is in the order of one index only, the one on (project, id).
"""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import F, Lookup, Model, QuerySet

_Row = TypeVar("_Row", bound=Model)


class EqualsAny(Lookup):
    """`column = ANY(ARRAY[value])`: a condition on the column, which yet does not make it a constant of the plan."""

    lookup_name = "equals_any"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = self.process_lhs(compiler, connection)
        value, more = self.process_rhs(compiler, connection)
        array = f"ARRAY[{value}]::{self.lhs.output_field.db_type(connection)}[]"
        return f"{column} = ANY({array})", (*parameters, *more)


def newest(rows: QuerySet[_Row], **columns: Any) -> QuerySet[_Row]:
    """Those with these values, newest first. There is an index on just these columns and the id."""
    for column, value in columns.items():
        rows = rows.filter(EqualsAny(F(column), value))
    return rows.order_by(*(f"-{column}" for column in columns), "-id")
