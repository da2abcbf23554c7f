"""The operator: turns JobPools into worker Deployments and scales those on the real backlog.

Pure: `spec`, `deployment`, `conditions`, `status`, `scaling`. At the edges: `sampling` (Redis, PostgreSQL), `nodes`
(PostgreSQL), `cluster` (a protocol). `autoscaler` is the loop that joins them: gather, decide, do, report.
"""
