"""The spellings that the resources allow: patterns, each with its wording for people. Pure.

`crds/` has the same as CEL rules: the API server tells a broken `pattern` without any words.
"""

from __future__ import annotations

# A Dramatiq queue name, in lower case, so that `<queue>.DQ` and `<queue>.XQ` can never be somebody's queue.
QUEUE = r"^[a-z]([-a-z0-9.]*[a-z0-9])?$"
# A host name, an IPv4 address, or an IPv6 address without brackets.
HOST = r"^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|[0-9a-fA-F:]+)$"
DOMAIN = r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*$"
# A domain that can have records of its own, so with a dot.
QUALIFIED = r"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)+$"
ENV = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
# Kubernetes' own pattern of a resource quantity (apimachinery, resource.Quantity).
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)

# 0 to 0.99, as text: the API knows no decimals that all of its clients read alike.
FRACTION = r"^0(\.[0-9]{1,4})?$"

# IPv4 to the letter, IPv6 by its characters: the parser looks closer.
ADDRESS = (
    r"^(((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    r"|[0-9a-fA-F]*:[0-9a-fA-F:.]*)$"
)
SELECTOR = r"^[a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-_a-zA-Z0-9]*[a-zA-Z0-9])?)*$"
DATA_KEY = r"^[-._a-zA-Z0-9]+$"
# The sites that the workers' table names (a contract test holds that), `default` for those without a name, or a domain.
SITES = ("apple", "comcast", "gmail", "gmx", "orange", "outlook", "qq", "yahoo")
SITE = (
    rf"^(default|{'|'.join(SITES)}"
    r"|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+)$"
)
DATE = r"^[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))$"
# 1.01 to 10, as text for the same reason.
GROWTH = r"^(1\.(0[1-9]|[1-9])[0-9]{0,3}|[2-9](\.[0-9]{1,4})?|10)$"

WORDING = {
    QUEUE: "not a queue name, give lower-case letters, digits, '-' and '.', beginning with a letter",
    HOST: "not a host, give a host name or an IP address without brackets or port",
    DOMAIN: "not a domain name, give one like mail.example.com",
    QUALIFIED: "not a domain with a dot in it, give one like bounces.example.com",
    ENV: "not the name of an environment variable, give letters, digits, '_', '-' and '.', no digit first",
    FRACTION: 'not a fraction below 1, give one like "0.1" (quote it)',
    ADDRESS: "not an IP address, give one like 192.0.2.1 or 2001:db8::1",
    SELECTOR: "not a selector, give letters, digits, '-', '_' and '.', as in s1 or 2026.mail",
    DATA_KEY: "not a key of a Secret, give letters, digits, '-', '_' and '.'",
    SITE: (
        f"not a site, give {', '.join(SITES)}, default (each other one by itself) or a domain in lower case like "
        "example.org"
    ),
    DATE: 'not a date, give one like "2026-11-24" (quote it)',
    GROWTH: 'not a growth factor, give one from "1.01" to "10" (quote it)',
    QUANTITY: 'not a quantity, give one like 2, "500m" or "1Gi"',
}
