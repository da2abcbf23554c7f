"""Campaigns: reading and checking them, expanding them into mail, pausing, cancelling and counting them."""

DEFAULT_QUEUE = "campaign-standard"
