"""What workers and the relay tell Prometheus. Every name is explained in docs/metrics.md.

`jobs` counts outcomes wherever they are written, `worker` adds what only a worker process knows, `relay` what only the
relay does, and `shared` shows the processes of one worker as one. Labels are queues, job types, sending nodes and words
of short lists: never tenants, campaigns or recipients.
"""
