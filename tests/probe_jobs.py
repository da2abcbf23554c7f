"""Job types for the tests, loaded into real workers by POSTFLEET_JOB_MODULES=probe_jobs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from typing import Any

from postfleet_workers.actors import Services
from postfleet_workers.jobs import Done, Job, JobType, Outcome, Permanent, Run, Settled, Snooze, Transient, each


def job_types(services: Services) -> Iterable[JobType]:
    def note(job: Job, run: Run) -> Outcome:
        """Does what its args say; every run is counted in Redis, so that a test can see what ran twice."""
        services.client.hincrby("probe:runs", str(job.id), 1)
        services.client.rpush("probe:order", job.id)
        match job.args.get("do", "done"):
            case "sleep":
                time.sleep(job.args["seconds"])
            case "raise":
                raise RuntimeError(job.args.get("error", "on purpose"))
            case "transient":
                return Transient("not this time")
            case "permanent":
                return Permanent("never")
            case "snooze" if job.snoozes == 0:
                return Snooze(job.args["seconds"], "later")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "wait":
                while not services.client.blpop([f"probe:release:{job.id}"], timeout=1):
                    pass  # the client waits for no reply longer than 5 s
        return Done()

    def refuse(connection: Any, settled: Sequence[Settled]) -> None:
        if any(one.job.args.get("do") == "unwritable" for one in settled):
            raise RuntimeError("cannot be written")

    yield JobType("probe.settled", "probe", each(note), bundle_size=20, settle=refuse, timeout_seconds=1.0)
    yield JobType("probe", "probe", each(note), bundle_size=20)
    yield JobType("probe.single", "probe", each(note))
    yield JobType("probe.brief", "probe", each(note), timeout_seconds=1.0)
