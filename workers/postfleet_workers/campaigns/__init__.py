"""Campaigns: reading and checking them, expanding them into mail, pausing, cancelling and counting them."""
