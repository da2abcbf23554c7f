"""What every table shares: the metadata, names of constraints, and which SQL type a Python type stands for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, Boolean, DateTime, Double, Integer, MetaData, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase

# Keys and foreign keys are called what PostgreSQL itself calls them, as the migrations leave those unnamed.
NAMES = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(column_0_name)s_fkey",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
}

BigInt = Annotated[int, "bigint"]
SmallInt = Annotated[int, "smallint"]


class Base(DeclarativeBase):
    """Base of the models.

    Strings are `text`, as a length limit in the schema protects nothing that a migration must not later undo; times
    are `timestamptz`; whole numbers are `integer` unless annotated `BigInt` or `SmallInt`.
    """

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration has no ClassVar
        str: Text,
        bool: Boolean,
        int: Integer,
        BigInt: BigInteger,
        SmallInt: SmallInteger,
        float: Double,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text),
    }
