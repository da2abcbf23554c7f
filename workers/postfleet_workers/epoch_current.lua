-- KEYS: epoch. Returns the live epoch or ''.
return live_epoch(KEYS[1]) or ''
