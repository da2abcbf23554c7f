"""How it goes out: where to, over which sessions, and the dialogue itself."""
