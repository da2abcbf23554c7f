"""When something that no worker set wants any more may be removed. Pure.

A Deployment goes once its workers have had time to hear that their node is served elsewhere: deleting it lets them
drain. Its Secret stays until the last of them must have ended, because the files of a deleted Secret vanish under
their feet. Nothing goes while the owner of it may be a resource that cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from postfleet_operator.cluster import BrokenNode, BrokenPool, Stray

DEPLOYMENT_SECONDS = 10.0
# Longer than the longest spec.worker.shutdownTimeoutSeconds and its margin.
SECRET_SECONDS = 3600.0 + 60.0


class Strays:
    """Remembers since when each has been one. An operator that starts anew begins to wait anew."""

    def __init__(self) -> None:
        self._since: dict[Stray, float] = {}

    def due(
        self, found: Iterable[Stray], broken: Sequence[BrokenPool | BrokenNode], mirrored_at: float | None, now: float
    ) -> list[Stray]:
        """Those to remove now.

        Args:
            found: every stray there is.
            broken: the resources that cannot be read.
            mirrored_at: since when the database has known the nodes as they are now; None: it does not.
            now: epoch seconds.
        """
        strays = [stray for stray in found if not any(_may_belong(stray, resource) for resource in broken)]
        # At most now, or a clock that was set back would hold them for hours.
        self._since = {stray: min(self._since.get(stray, now), now) for stray in strays}
        if mirrored_at is None:
            return []
        return [stray for stray in strays if now >= max(self._since[stray], mirrored_at) + _seconds(stray)]


def _seconds(stray: Stray) -> float:
    return DEPLOYMENT_SECONDS if stray.kind == "Deployment" else SECRET_SECONDS


def _may_belong(stray: Stray, resource: BrokenPool | BrokenNode) -> bool:
    name = resource.metadata.name
    if stray.namespace != resource.metadata.namespace:
        return False
    if isinstance(resource, BrokenPool):
        return stray.name == name or stray.name.startswith(f"{name}-")
    return stray.name.removesuffix("-nodes").endswith(f"-{name}")
