"""Replays a trace of arrivals through scaling policies on a virtual fleet: `trace`, `fleet`, one module per policy."""
