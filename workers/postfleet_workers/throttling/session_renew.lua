-- Extend leases, and register those that Redis forgot. KEYS: postfleet:epoch, postfleet:epoch:since, then
-- postfleet:sessions:<node> per session (see session_acquire.lua). ARGV: lease in us, now or '', then the session ids.
-- Returns the positions (from 1) of the sessions whose lease has lapsed.
local lease, now = tonumber(ARGV[1]), now_us(ARGV[2])
local since = changed_us(KEYS[2])
local registering = not live_epoch(KEYS[1]) or (since and now < since + lease)
local lapsed = {}

for i = 3, #KEYS do
    local session = ARGV[i]
    -- A lease that ran out but is still listed has been given to nobody: every acquire clears those first.
    if registering or redis.call('ZSCORE', KEYS[i], session) then
        redis.call('ZADD', KEYS[i], string.format('%.6f', (now + lease) / 1000000), session)
        redis.call('PEXPIRE', KEYS[i], math.ceil(lease / 500))
    else
        lapsed[#lapsed + 1] = i - 2
    end
end
return lapsed
