"""A worker process: Dramatiq carries bundles to threads, the runner claims, performs and settles them."""
