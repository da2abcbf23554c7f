"""Sends a job that does nothing, the expansion of a campaign that is not there, and waits for its end."""

import sys
import time

from sqlalchemy import text

from postfleet_workers.enqueue import enqueue
from postfleet_workers.errors import PermanentError, StoreUnavailable
from postfleet_workers.jobs import NewJob
from postfleet_workers.settings import Settings
from postfleet_workers.store.session import engine_for, require_schema, transaction

SECONDS = float(sys.argv[1])
STATE = text("SELECT state, last_error FROM jobs WHERE id = :id")

engine = engine_for(Settings().database_url, connections=1, application_name="postfleet-test")
begun = time.monotonic()
while True:  # right after an installation both may still be on their way
    try:
        require_schema(engine)
        break
    except (StoreUnavailable, PermanentError) as error:
        if time.monotonic() - begun > SECONDS:
            sys.exit(f"after {time.monotonic() - begun:.0f} s: {error}")
    time.sleep(0.5)
with transaction(engine) as connection:
    number = enqueue(connection, NewJob("campaign.expand", "priority-high", {"campaign_id": 0}))
print(f"job {number} is in the ledger", flush=True)
while True:
    with transaction(engine) as connection:
        row = connection.execute(STATE, {"id": number}).one()
    if row.state == "completed":
        print(f"done after {time.monotonic() - begun:.1f} s")
        sys.exit(0)
    if row.state in ("discarded", "cancelled") or time.monotonic() - begun > SECONDS:
        sys.exit(f"job {number} is {row.state} after {time.monotonic() - begun:.0f} s: {row.last_error or 'no error'}")
    time.sleep(0.5)
