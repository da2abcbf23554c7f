"""The spellings that the resources allow: patterns, each with its wording for people. Pure.

`crds/` has the same as CEL rules: the API server tells a broken `pattern` without any words.
"""

from __future__ import annotations

# A Dramatiq queue name, in lower case, so that `<queue>.DQ` and `<queue>.XQ` can never be somebody's queue.
QUEUE = r"^[a-z]([-a-z0-9.]*[a-z0-9])?$"
# A host name, an IPv4 address, or an IPv6 address without brackets.
HOST = r"^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|[0-9a-fA-F:]+)$"
DOMAIN = r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*$"
ENV = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
# Kubernetes' own pattern of a resource quantity (apimachinery, resource.Quantity).
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)

# 0 to 0.99, as text: the API knows no decimals that all of its clients read alike.
FRACTION = r"^0(\.[0-9]{1,4})?$"

WORDING = {
    QUEUE: "not a queue name, give lower-case letters, digits, '-' and '.', beginning with a letter",
    HOST: "not a host, give a host name or an IP address without brackets or port",
    DOMAIN: "not a domain name, give one like mail.example.com",
    ENV: "not the name of an environment variable, give letters, digits, '_', '-' and '.', no digit first",
    FRACTION: 'not a fraction below 1, give one like "0.1" (quote it)',
    QUANTITY: 'not a quantity, give one like 2, "500m" or "1Gi"',
}
