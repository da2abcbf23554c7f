"""Compares the scaling policies on every shipped trace: `python benchmarks/scaling.py [--markdown] [--shape NAME …]`.

The pool has the CRD's defaults: latencySeconds 5, 0 to 20 replicas. A line of the verdict says whether the pool's
policy left fewer jobs late than tuned KEDA for no more replica-hours, or cost less and left no more late.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor

from postfleet_operator.simulation import policies, report, trace
from postfleet_operator.simulation.fleet import Shape
from postfleet_operator.simulation.replay import Outcome, replay
from postfleet_operator.spec import PoolSpec

# All of them can do the same 320 jobs/s with 20 replicas, or more.
SHAPES: dict[str, Shape] = {
    "16 threads, 1 s jobs, 5 s starts": Shape(16, 1.0, 5.0),
    "16 threads, 1 s jobs, 2 s starts": Shape(16, 1.0, 2.0),
    "16 threads, 1 s jobs, 15 s starts": Shape(16, 1.0, 15.0),
    "16 threads, 0.25 s jobs, 5 s starts": Shape(16, 0.25, 5.0),
    "4 threads, 0.25 s jobs, 5 s starts": Shape(4, 0.25, 5.0),
    "32 threads, 1 s jobs, 5 s starts": Shape(32, 1.0, 5.0),
    "64 threads, 4 s jobs, 5 s starts": Shape(64, 4.0, 5.0),
}
SPEC = PoolSpec(queues=("email",))

Result = tuple[str, str, Mapping[str, Outcome]]


def compare(task: tuple[str, str]) -> Result:
    """All policies on one trace and one shape."""
    shape, name = task
    scene = policies.scene(SPEC, trace.load(name), SHAPES[shape])
    return shape, name, {policy: replay(scene, make()).outcome for policy, make in policies.makers(SPEC, scene).items()}


def verdict(ours: Outcome, theirs: Outcome) -> str:
    """Of the pool's policy against another."""
    late, cost = ours.slo_miss_fraction - theirs.slo_miss_fraction, ours.replica_hours - theirs.replica_hours
    if (late < 0 and cost <= 0) or (late <= 0 and cost < 0):
        return "better"
    if (late > 0 and cost >= 0) or (late >= 0 and cost > 0):
        return "worse"
    return "dearer" if cost > 0 else "later" if late > 0 else "equal"


def lines(results: list[Result]) -> list[tuple[str, ...]]:
    """Rows of the table of one shape."""
    rows: list[tuple[str, ...]] = [("trace", *report.COLUMNS, "postfleet is")]
    for _, name, outcomes in results:
        for policy, outcome in outcomes.items():
            judged = "" if policy == "postfleet" else verdict(outcomes["postfleet"], outcome)
            rows.append((name if policy == "postfleet" else "", *report.row(policy, outcome), judged))
    return rows


def markdown(rows: list[tuple[str, ...]]) -> str:
    """As a table of a page."""
    head, *body = rows
    marks = ("---", "---", *["---:"] * (len(head) - 3), "---")
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *body))


def main() -> None:
    """Print a table per shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="may be given several times; by default all")
    given = parser.parse_args()
    shapes = given.shape or list(SHAPES)
    with ProcessPoolExecutor() as workers:
        results = list(workers.map(compare, [(shape, name) for shape in shapes for name in trace.SHIPPED]))
    for shape in shapes:
        rows = lines([result for result in results if result[0] == shape])
        table = markdown(rows) if given.markdown else report.align(rows)
        sys.stdout.write(f"\n{shape}\n\n{table}\n")
    tuned = [verdict(outcomes["postfleet"], outcomes["keda_tuned"]) for _, _, outcomes in results]
    counts = ", ".join(f"{word} {tuned.count(word)}" for word in ("better", "dearer", "later", "equal", "worse"))
    sys.stdout.write(f"\nagainst tuned KEDA, {len(tuned)} replays: {counts}\n")


if __name__ == "__main__":
    main()
