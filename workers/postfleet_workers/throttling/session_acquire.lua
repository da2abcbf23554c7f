-- Lease one session of every place, or of none.
--
-- KEYS: postfleet:epoch, postfleet:epoch:since, then postfleet:sessions:<place> per place.
--     postfleet:sessions:<place>   zset: session id -> end of its lease, server time in float seconds;
--                                  a place is <node> or <node>|<site>
-- ARGV: session id, lease in us, now ('' is the server's clock), then a maximum per place. Returns 1 if leased.
local session, lease, now = ARGV[1], tonumber(ARGV[2]), now_us(ARGV[3])

local new = {}
for i = 3, #KEYS do
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', string.format('%.6f', now / 1000000))
    if not redis.call('ZSCORE', KEYS[i], session) then new[#new + 1] = i end
end
if #new > 0 then
    -- What is open may not be registered yet: holders do so when they renew, within one lease.
    if not live_epoch(KEYS[1]) then return 0 end
    local since = changed_us(KEYS[2])
    if since and now < since + lease then return 0 end
    for _, i in ipairs(new) do
        if redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[i + 1]) then return 0 end
    end
end
for i = 3, #KEYS do
    redis.call('ZADD', KEYS[i], string.format('%.6f', (now + lease) / 1000000), session)
    redis.call('PEXPIRE', KEYS[i], math.ceil(lease / 500))
end
return 1
