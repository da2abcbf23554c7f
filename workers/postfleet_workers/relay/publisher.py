"""Publish: count a queue's groups, allocate its free slots, offer rows in PostgreSQL, push bundles to Redis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from postfleet_workers.jobs import Registry
from postfleet_workers.leases import LiveWorker
from postfleet_workers.relay import bundles, census, gate, record, rows
from postfleet_workers.relay.allocate import Demand, Key, allocate
from postfleet_workers.relay.arrivals import Arrivals
from postfleet_workers.relay.census import Group, Pipeful
from postfleet_workers.relay.permits import Permits, foresee, still_to_ask
from postfleet_workers.relay.queue import Item, Pipe
from postfleet_workers.relay.turns import Turns
from postfleet_workers.settings import Settings
from postfleet_workers.throttling.limiter import Limiter

FLOOR_SLOTS = 8  # bundles offered with no worker at all: enough for the first one to start on
COUNT_LIMIT = 20_000  # due rows counted per queue at a poll: more replicas than pools have would be asked for beyond it
CLOSED_LIMIT = 2_000  # the same for what is paused, which nobody scales by
LARGEST_BUNDLE = 50
RECORD_TTL_SECONDS = 60


@dataclass(slots=True)
class Look:
    """What one tick saw of a queue and did there.

    Attributes:
        queue: its name in the ledger.
        road: its name in Redis; each Dedicated node has one of its own.
        hungry: rows that may run wait, or may wait, for a free slot.
    """

    queue: str
    road: str
    slots: int
    messages: int
    pipe: dict[Key, Pipeful] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    permits: Permits = field(default_factory=lambda: Permits({}, {}))
    published: dict[Key, int] = field(default_factory=dict)
    hungry: bool = False


class Publisher:
    """Keeps each queue's pipe filled with a few seconds of work, fairly, within the limits."""

    def __init__(self, pipe: Pipe, limiter: Limiter, registry: Registry, settings: Settings) -> None:
        self._pipe = pipe
        self.limiter = limiter
        self._registry = registry
        self._settings = settings
        self._sizes: dict[str, int] = {}
        self._turns: dict[str, Turns] = defaultdict(Turns)  # these, too, by road
        self._arrivals: dict[str, Arrivals] = {}
        self._published: dict[str, Counter[Key]] = defaultdict(Counter)  # since the last report
        self._reported_at: dict[str, float] = {}

    def publish(
        self,
        connection: Connection,
        queues: Sequence[str],
        rules: gate.Rules,
        live: Sequence[LiveWorker],
        *,
        full: bool,
    ) -> list[Look]:
        """One tick over `queues`, most urgent first: it takes what limits permit before the others.

        `full` counts for the record too, otherwise only what free slots can take.
        """
        roads = [(queue, road) for queue in queues for road in rules.roads(queue)]
        depths = self._pipe.depths([road for _, road in roads])
        threads: Counter[str] = Counter()
        for worker in live:
            threads.update(dict.fromkeys(worker.queues, worker.threads))
        looks = []
        for queue, road in roads:
            bound = max(FLOOR_SLOTS, int(threads[road] * self._settings.pipe_bundles_per_thread))
            # A full pipe of short jobs is empty long before the next poll.
            looks.append(Look(queue, road, bound - depths[road], depths[road], hungry=True))
        open_looks = [look for look in looks if full or look.slots > 0]
        if open_looks:
            with connection.begin():
                pipes = census.pipefuls(connection)
                keys = census.keys(connection, sorted({look.queue for look in open_looks}))
            asking = still_to_ask(rules, pipes)
            for queue, own in groupby(open_looks, key=lambda look: look.queue):
                by_road = _by_road(rules, queue, keys.get(queue, ()))
                pipes_by_road = _by_road(rules, queue, pipes.get(queue, {}))
                for look in own:
                    look.pipe = {key: pipes[queue][key] for key in pipes_by_road.get(look.road, ())}
                    self._publish(connection, look, by_road.get(look.road, []), rules, asking, full=full)
        return looks

    def report(self, connection: Connection, looks: Sequence[Look], rules: gate.Rules) -> dict[str, dict[str, Any]]:
        """Write the record of each queue that was looked at in full; the records."""
        at = self._pipe.server_time()
        records: dict[str, dict[str, Any]] = {}
        for queue, own in groupby(looks, key=lambda look: look.queue):
            with connection.begin():
                waiting = rows.waiting(connection, queue, COUNT_LIMIT)
            for look in own:
                routes = [route for route in waiting if rules.road(queue, route) == look.road]
                standings = record.stand(queue, look.groups, look.published, rules, look.permits)
                records[look.road] = record.compose(
                    standings=standings,
                    published_now=look.published,
                    pipe=look.pipe,
                    messages=look.messages,
                    rules=rules,
                    permits=look.permits,
                    waiting=(
                        sum(waiting[route][0] for route in routes),
                        min((waiting[route][1] for route in routes), default=None),
                    ),
                    arrivals_per_second=self._arrived(look.road, standings, at),
                    at=at,
                    poll_seconds=self._settings.relay_poll_seconds,
                )
        self._pipe.report(records, RECORD_TTL_SECONDS)
        for road in self._reported_at.keys() - records.keys():
            for known in (self._arrivals, self._published, self._reported_at):
                known.pop(road, None)
        return records

    def _arrived(self, road: str, standings: Sequence[record.Standing], at: float) -> float:
        due = {standing.group.key: standing.balance for standing in standings}
        elapsed = at - self._reported_at.get(road, at)
        arrivals = self._arrivals.get(road, Arrivals()).look(due, self._published.pop(road, {}), elapsed)
        self._arrivals[road], self._reported_at[road] = arrivals, at
        return arrivals.per_second

    def _publish(
        self,
        connection: Connection,
        look: Look,
        keys: Sequence[Key],
        rules: gate.Rules,
        asking: Counter[str],
        *,
        full: bool,
    ) -> None:
        look.hungry = False
        if not keys:
            return
        budget = COUNT_LIMIT if full else min(COUNT_LIMIT, look.slots * LARGEST_BUNDLE)
        with connection.begin():
            closed = [key for key in keys if rules.closed(look.queue, key)]
            open_keys = sorted({*keys}.difference(closed))
            look.groups = census.count(connection, look.queue, open_keys, budget, look.pipe)
            open_groups = list(look.groups)
            if full:
                look.groups += census.count(connection, look.queue, closed, CLOSED_LIMIT, look.pipe)
        if not open_groups:
            return
        routes = sorted({_pace_key(group) for group in open_groups})
        paces = self._pipe.paces(routes)
        look.permits = self._permits(open_groups, rules, paces | self._pipe.held(routes), asking, planned=full)
        self._fill(connection, look, rules, open_groups, paces)
        self._published[look.road].update(look.published)
        for key, published in look.published.items():
            asking.update({limit.key: published for limit in rules.limits(key)})
        # What a pause holds back does not call for another look before the next poll.
        look.hungry = any(group.more or group.due > look.published.get(group.key, 0) for group in open_groups)

    def _fill(
        self,
        connection: Connection,
        look: Look,
        rules: gate.Rules,
        open_groups: Sequence[Group],
        paces: dict[str, float],
    ) -> None:
        takes, sizes = self._takes(look, rules, open_groups, paces) if look.slots > 0 else ({}, {})
        seconds = self._settings.publication_seconds
        messages: list[tuple[str, Sequence[Item]]] = []
        with connection.begin():
            for key, take in takes.items():
                found = rows.publish(connection, look.queue, key, take, seconds)
                look.published[key] = len(found)
                messages += self._bundles(found, sizes[key])
            # At most one is on its way: a full pipe is no reason to let it wait.
            open_keys = [group.key for group in open_groups]
            if suspect := rows.publish_suspect(connection, look.queue, open_keys, seconds):
                messages.append((suspect.type, [(suspect.id, suspect.publication)]))
        # Committed first: a row that was pushed but not committed would be claimed by nobody, and never again.
        if messages:
            self._pipe.push(look.road, messages, int(self._pipe.server_time() * 1000))
        look.messages += len(messages)

    def _takes(
        self, look: Look, rules: gate.Rules, open_groups: Sequence[Group], paces: dict[str, float]
    ) -> tuple[dict[Key, int], dict[Key, int]]:
        sizes = {group.key: self._size(group, paces, look.slots) for group in open_groups}
        demands = [
            Demand(
                group.key,
                rules.weight(group.key[0]),
                # Its share of the pipe must not hang on how far it was counted.
                max(group.due, look.slots * sizes[group.key]) if group.more else group.due,
                look.pipe.get(group.key, census.NONE).jobs,
                sizes[group.key],
                tuple(limit.key for limit in rules.limits(group.key)),
            )
            for group in open_groups
        ]
        demands += [
            Demand(key, rules.weight(key[0]), due=0, in_pipe=pipeful.jobs, bundle=max(sizes.values()))
            for key, pipeful in look.pipe.items()
            if key not in sizes
        ]
        return allocate(look.slots, demands, look.permits.now, self._turns[look.road]), sizes

    def _permits(
        self,
        groups: Sequence[Group],
        rules: gate.Rules,
        held: dict[str, float],
        asking: Counter[str],
        *,
        planned: bool,
    ) -> Permits:
        session_paces: dict[str, float] = {}
        for group in groups:  # the fastest of those that share sessions: what a slow one takes, its own limit bounds
            pace = held.get(_pace_key(group), 1.0)
            for limit in rules.sessions(group.key[2]):
                session_paces[limit.key] = min(pace, session_paces.get(limit.key, pace))
        limits = [limit for group in groups for limit in rules.limits(group.key)]
        return foresee(self.limiter, limits, session_paces, asking, planned=planned)

    def _size(self, group: Group, paces: dict[str, float], slots: int) -> int:
        job_type = self._registry.find(group.type)
        route = _pace_key(group)
        size = bundles.size(
            limit=job_type.bundle_size if job_type else 1,
            previous=self._sizes.get(route),
            pace_seconds=paces.get(route),
            target_seconds=self._settings.bundle_target_seconds,
        )
        self._sizes[route] = size
        return size if group.more else bundles.spread(size, due=group.due, slots=slots)

    def _bundles(self, found: Sequence[rows.Published], size: int) -> list[tuple[str, Sequence[Item]]]:
        by_type: dict[str, list[Item]] = defaultdict(list)
        for kind, members in groupby(found, key=lambda row: row.type):
            by_type[kind] += [(row.id, row.publication) for row in members]
        made: list[tuple[str, Sequence[Item]]] = []
        for kind, items in by_type.items():
            job_type = self._registry.find(kind)
            limit = min(size, job_type.bundle_size if job_type else 1)
            made += [(kind, chunk) for chunk in bundles.chunks(items, limit)]
        return made


def _by_road(rules: gate.Rules, queue: str, keys: Iterable[Key]) -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = defaultdict(list)
    for key in keys:
        found[rules.road(queue, key[2])].append(key)
    return found


def _pace_key(group: Group) -> str:
    return f"{group.type}|{group.key[2]}"
