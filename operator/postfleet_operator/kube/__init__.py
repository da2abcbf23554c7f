"""The operator on Kubernetes: the API, a cache that kopf keeps fresh, leadership, and the cluster made of them."""
