"""Tables as classes: one metadata. The migrations are the schema's source; a test holds that both agree."""

from __future__ import annotations

from postfleet_workers.store.models.base import Base
from postfleet_workers.store.models.campaign import Attachment, Campaign
from postfleet_workers.store.models.contact import Contact, ContactList, ContactListMember
from postfleet_workers.store.models.email import Email, EmailAttempt, EmailEvent
from postfleet_workers.store.models.hold import Hold
from postfleet_workers.store.models.job import Job, JobAttempt
from postfleet_workers.store.models.node import NodeOwner, SendingNode, Slowdown
from postfleet_workers.store.models.suppression import Suppression
from postfleet_workers.store.models.tenant import Tenant
from postfleet_workers.store.models.worker import Worker

__all__ = [
    "Attachment",
    "Base",
    "Campaign",
    "Contact",
    "ContactList",
    "ContactListMember",
    "Email",
    "EmailAttempt",
    "EmailEvent",
    "Hold",
    "Job",
    "JobAttempt",
    "NodeOwner",
    "SendingNode",
    "Slowdown",
    "Suppression",
    "Tenant",
    "Worker",
]
