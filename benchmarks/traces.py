"""Writes the traces that come with the package: `python benchmarks/traces.py`. Same numbers every time.

Arrivals are Poisson around a rate that depends on the second; the seed is the trace's name. Bursts begin at seconds
that are no multiple of anybody's polling interval. Rates suit a pool of 20 replicas with 16 threads and jobs of one
second (320 jobs/s); use `--threads` and `--service-seconds` for other pools.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

from postfleet_operator.simulation.trace import render

FOLDER = Path(__file__).parents[1] / "operator" / "postfleet_operator" / "simulation" / "traces"
MINUTE = 60
HOUR = 60 * MINUTE


def burst(second: int) -> float:
    """Quiet, then a campaign of some thousand jobs within seconds, three times, each larger than the last."""
    bursts = ((607, 10, 200.0), (1_813, 20, 250.0), (3_119, 60, 200.0))
    return next((rate for begins, lasts, rate in bursts if begins <= second < begins + lasts), 0.2)


def diurnal(second: int) -> float:
    """A day in four hours: almost nothing at night, 220 jobs/s around noon."""
    return 4 + 216 * max(math.sin(math.pi * (second / (4 * HOUR) - 0.2) / 0.6), 0.0) ** 2


def ramp(second: int) -> float:
    """From nothing to 240 jobs/s within forty minutes, ten minutes there, back within ten."""
    up, top, down = 40 * MINUTE, 50 * MINUTE, 60 * MINUTE
    if second < up:
        return 240 * second / up
    return 240.0 if second < top else max(240 * (down - second) / (down - top), 0.0)


def spiky(second: int) -> float:
    """30 jobs/s, and about every two minutes a spike of 150 for 8 seconds or of 60 for 40 seconds."""
    position, spike = second % 127, second // 127
    if spike % 2:
        return 150.0 if 31 <= position < 39 else 30.0
    return 60.0 if 53 <= position < 93 else 30.0


def overload(second: int) -> float:
    """More than all replicas can do for ten minutes: 480 jobs/s, between stretches of 100."""
    return 480.0 if 10 * MINUTE + 7 <= second < 20 * MINUTE + 7 else 100.0


TRACES: dict[str, tuple[Callable[[int], float], int]] = {
    "burst": (burst, 80 * MINUTE),
    "diurnal": (diurnal, 4 * HOUR),
    "ramp": (ramp, 70 * MINUTE),
    "spiky": (spiky, 60 * MINUTE),
    "overload": (overload, 50 * MINUTE),
}


def poisson(chance: random.Random, mean: float) -> int:
    """A Poisson number: exponential gaps for a small mean, the normal approximation for a large one."""
    if mean > 50:
        return max(round(chance.gauss(mean, math.sqrt(mean))), 0)
    count, product, limit = 0, chance.random(), math.exp(-mean)
    while product > limit:
        count, product = count + 1, product * chance.random()
    return count


def main() -> None:
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    for name, (rate, seconds) in TRACES.items():
        chance = random.Random(name)  # noqa: S311 - not a secret
        rows = [(second, poisson(chance, rate(second))) for second in range(seconds)]
        kept = [row for row in rows[:-1] if row[1]] + rows[-1:]
        (FOLDER / f"{name}.csv").write_text(render(kept), encoding="ascii")


if __name__ == "__main__":
    main()
