"""The job types that come with Postfleet, each in a module of its own, and those of its users.

A module named in `POSTFLEET_JOB_MODULES` offers `job_types(services) -> Iterable[JobType]`, as the modules here do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

import redis
from sqlalchemy import Engine

from postfleet_workers.errors import InputError
from postfleet_workers.jobs import JobType, Registry
from postfleet_workers.settings import Settings
from postfleet_workers.throttling.limiter import Limiter

BUILT_IN = ("postfleet_workers.actors.email_send", "postfleet_workers.actors.campaign_expand")


@dataclass(frozen=True, slots=True)
class Services:
    """What a job type may use. `engine` is shared by all threads of a process and holds few connections: be brief."""

    settings: Settings
    engine: Engine
    client: redis.Redis
    limiter: Limiter


def registry(services: Services) -> Registry:
    """Every job type that this process knows.

    Raises:
        InputError: a module of `POSTFLEET_JOB_MODULES` cannot be used.
    """
    named = [name.strip() for name in services.settings.job_modules.split(",") if name.strip()]
    types = [job_type for name in (*BUILT_IN, *named) for job_type in _from(name, services)]
    return Registry(types)


def _from(name: str, services: Services) -> Iterable[JobType]:
    try:
        module = import_module(name)
    except ImportError as error:
        raise InputError(f"POSTFLEET_JOB_MODULES: cannot import {name!r}: {error}") from error
    make = getattr(module, "job_types", None)
    if make is None:
        raise InputError(f"POSTFLEET_JOB_MODULES: {name!r} has no job_types(services); see docs/jobs.md")
    found: Iterable[JobType] = make(services)
    return found
