-- The journal of a claim, see journal.py.
--
-- postfleet:journal:<claim>  hash
--     state      open | closed | revoked
--     worker     who opened it
--     epoch      the epoch it was claimed in
--     complete   set by revoke: 1 if nothing can have been lost
--     <job id>   begun:<epoch seconds> | dot | reply:<text>
-- postfleet:journals         zset: claims that are open, by server time of opening. A claim that is listed here but has
--                            no hash has lost it; one that is not listed and has no hash was never opened.
--
-- KEYS: journal, postfleet:journals, postfleet:epoch. ARGV: what to do, the claim, then as each says.

local journal, journals, epoch_key = KEYS[1], KEYS[2], KEYS[3]
local act, claim = ARGV[1], ARGV[2]
local MINUTE, DAY = 60000, 86400000
local state = redis.call('HGET', journal, 'state')

-- the server's id, worker, epoch -> 1 if opened
if act == 'open' then
    if state or live_epoch(epoch_key, ARGV[3]) ~= ARGV[5] then return 0 end
    local now = now_us()
    redis.call('HSET', journal, 'state', 'open', 'worker', ARGV[4], 'epoch', ARGV[5])
    redis.call('PEXPIRE', journal, 7 * DAY)
    redis.call('ZADD', journals, whole(now), claim)
    redis.call('ZREMRANGEBYSCORE', journals, '-inf', whole(now - 7 * DAY * 1000))
    return 1
end

-- then triples: reply|begin, job id, value. A begin never hides what is known of the job already.
if act == 'record' then
    if state ~= 'open' then return 0 end
    for i = 3, #ARGV, 3 do
        local write = ARGV[i] == 'begin' and 'HSETNX' or 'HSET'
        redis.call(write, journal, ARGV[i + 1], ARGV[i + 2])
    end
    return 1
end

-- the server's id, job ids -> 1 if their dots may go out
if act == 'dot' then
    if state ~= 'open' or live_epoch(epoch_key, ARGV[3]) ~= redis.call('HGET', journal, 'epoch') then return 0 end
    for i = 4, #ARGV do redis.call('HSET', journal, ARGV[i], 'dot') end
    return 1
end

-- the claim's epoch -> the hash; the tombstone outlives every worker that could come back
if act == 'revoke' then
    if state ~= 'revoked' then
        local same = live_epoch(epoch_key) == ARGV[3]
        local kept = not state and not redis.call('ZSCORE', journals, claim)
        if state then kept = redis.call('HGET', journal, 'epoch') == ARGV[3] end
        redis.call('HSET', journal, 'state', 'revoked', 'complete', (same and kept) and 1 or 0)
        redis.call('ZREM', journals, claim)
    end
    redis.call('PEXPIRE', journal, 2 * DAY)
    return redis.call('HGETALL', journal)
end

if act == 'close' then
    if state == 'open' then
        redis.call('HSET', journal, 'state', 'closed')
        redis.call('PEXPIRE', journal, 5 * MINUTE)
    end
    redis.call('ZREM', journals, claim)
    return 1
end

return redis.error_reply('ERR journal.lua does not know ' .. act)
