-- Extend leases, and register those that Redis forgot. KEYS: postfleet:epoch, postfleet:epoch:since, then
-- postfleet:sessions:<place> for every place of every session in turn (see session_acquire.lua). ARGV: lease in us,
-- now or '', then per session: its id, how many places it has.
-- Returns the positions (from 1) of the sessions whose lease has lapsed in any of their places.
local lease, now = tonumber(ARGV[1]), now_us(ARGV[2])
local since = changed_us(KEYS[2])
local registering = not live_epoch(KEYS[1]) or (since and now < since + lease)
local lapsed, key = {}, 3

for i = 3, #ARGV, 2 do
    local session, last = ARGV[i], key + tonumber(ARGV[i + 1]) - 1
    local held = true
    -- A lease that ran out but is still listed has been given to nobody: every acquire clears those first.
    for k = key, last do held = held and redis.call('ZSCORE', KEYS[k], session) end
    if registering or held then
        for k = key, last do
            redis.call('ZADD', KEYS[k], string.format('%.6f', (now + lease) / 1000000), session)
            redis.call('PEXPIRE', KEYS[k], math.ceil(lease / 500))
        end
    else
        lapsed[#lapsed + 1] = (i - 1) / 2
    end
    key = last + 1
end
return lapsed
