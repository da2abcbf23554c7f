-- Lease one of a node's sessions.
--
-- KEYS: postfleet:epoch, postfleet:epoch:since, postfleet:sessions:<node>.
--     postfleet:sessions:<node>   zset: session id -> end of its lease, server time in float seconds
-- ARGV: session id, maximum, lease in us, now ('' is the server's clock). Returns 1 if leased.
local lease, now = tonumber(ARGV[3]), now_us(ARGV[4])
local sessions = KEYS[3]

redis.call('ZREMRANGEBYSCORE', sessions, '-inf', string.format('%.6f', now / 1000000))
if not redis.call('ZSCORE', sessions, ARGV[1]) then
    -- What is open may not be registered yet: holders do so when they renew, within one lease.
    if not live_epoch(KEYS[1]) then return 0 end
    local since = changed_us(KEYS[2])
    if since and now < since + lease then return 0 end
    if redis.call('ZCARD', sessions) >= tonumber(ARGV[2]) then return 0 end
end
redis.call('ZADD', sessions, string.format('%.6f', (now + lease) / 1000000), ARGV[1])
redis.call('PEXPIRE', sessions, math.ceil(lease / 500))
return 1
