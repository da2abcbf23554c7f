"""The workers of Postfleet: the ledger, the relay, the Dramatiq workers and what they do."""
