"""A mail of a bundle that has begun: what it is, where it goes, and what it holds meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from postfleet_workers.jobs import Job
from postfleet_workers.mail.admission import limits_at
from postfleet_workers.mail.message.press import Mail
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.parcels import Parcel
from postfleet_workers.mail.permits import Permits
from postfleet_workers.mail.smtp.exchange import Destination
from postfleet_workers.mail.smtp.sessions import Lane, lane_of
from postfleet_workers.throttling.limits import Limit

BIG_OCTETS = 65_536  # of a smaller mail the kernel mostly takes all at once

Shelf = tuple[str, str, int | None, str]  # node, tenant, campaign and site: mail under the same limits


@dataclass(slots=True, eq=False)
class Letter:
    """A mail that is to go out.

    Attributes:
        mail: None until it is made.
        permits: where its permit was taken from; None until it was.
        permit_at: by what it is given back.
        admitted_at: when it was taken, on the monotonic clock, in seconds.
        retried: its first session turned out to have ended, this is the second.
    """

    job: Job
    parcel: Parcel
    node: NodeSpec
    destination: Destination
    mail: Mail | None = None
    permits: Permits | None = None
    permit_at: int = 0
    admitted_at: float = 0.0
    retried: bool = False

    @property
    def lane(self) -> Lane:
        """Which sessions it can go over."""
        return lane_of(self.node, self.destination)

    @property
    def big(self) -> bool:
        """Whether writing it may take a while."""
        return self.mail is not None and len(self.mail.message) > BIG_OCTETS

    @property
    def nameless(self) -> bool:
        """Whether it goes to a site that has no route of its own."""
        return bool(self.destination.site) and self.destination.site not in self.node.sites

    @property
    def limits_there(self) -> tuple[Limit, ...]:
        """What it counts against for where it goes, beyond its parcel's."""
        site = self.destination.site
        return limits_at(self.node.name, site, self.destination.limits, self.node.slowed_at(site))


def shelf(parcel: Parcel, site: str) -> Shelf:
    """Under which limits the mail goes to a site; by its domain, where the site is not asked for yet."""
    return parcel.row.node, parcel.row.tenant, parcel.row.campaign_id, site
