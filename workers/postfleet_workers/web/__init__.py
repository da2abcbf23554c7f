"""`postfleet web`: what the links in mails lead to. Unsubscribing, clicks and opens, each by a signed token."""
