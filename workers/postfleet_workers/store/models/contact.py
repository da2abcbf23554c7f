"""Contacts and the lists that they are on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.store.models.base import Base, BigInt


class ContactList(Base):
    """A named list of a tenant's contacts."""

    __tablename__ = "contact_lists"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Contact(Base):
    """A person to write to. One row per address and tenant, whatever the number of lists it is on."""

    __tablename__ = "contacts"
    __table_args__ = (UniqueConstraint("tenant", "email"),)

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    email: Mapped[str]
    # The CSV's other columns, by header: what templates may say of the contact.
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ContactListMember(Base):
    """A contact is on a list."""

    __tablename__ = "contact_list_members"

    list_id: Mapped[BigInt] = mapped_column(ForeignKey("contact_lists.id", ondelete="CASCADE"), primary_key=True)
    contact_id: Mapped[BigInt] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True)
