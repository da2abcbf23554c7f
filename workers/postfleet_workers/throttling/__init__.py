"""How many may go out: limits on mail per time (GCRA) and on open SMTP sessions, for the whole cluster.

`limits` and `gcra` are pure; `limiter` and `sessions` are the seams, `redis` the real thing, `memory` its twin.
"""
