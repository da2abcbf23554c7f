"""Tables as classes: one metadata. The migrations are the schema's source; a test holds that both agree."""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Base of the models."""
