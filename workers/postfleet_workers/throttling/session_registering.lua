-- Whether new sessions wait for holders to register theirs, as session_acquire.lua decides it.
-- KEYS: postfleet:epoch, postfleet:epoch:since. ARGV: lease in us, now or ''. Returns 1 or 0.
local since = changed_us(KEYS[2])
if not live_epoch(KEYS[1]) or (since and now_us(ARGV[2]) < since + tonumber(ARGV[1])) then return 1 end
return 0
