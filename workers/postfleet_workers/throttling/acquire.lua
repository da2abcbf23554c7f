-- Take up to n permits of every limit at once; the arithmetic of gcra.py, on the server's clock.
--
-- KEYS: postfleet:epoch, postfleet:epoch:since, then a key per limit.
--     postfleet:limit:<scope>:<name>:<window>         string: theoretical arrival time (TAT), server time in whole
--                                                     microseconds. Forgotten after a window without use.
--     postfleet:limit:<scope>:<name>:<window>:takes   list: '<at> <n> <TAT before>' of each take of the last seconds
--                                                     (minutes, of a reserved limit), so that it can be undone
-- ARGV: n, now ('' is the server's clock), then per limit: burst, interval in us, time to live in ms, and how long its
-- takes are remembered in us.
-- Returns {granted, index of the limit that bound or 0, when one more may go out in us or '', now in us};
-- index -1: no live epoch.

local n, now = tonumber(ARGV[1]), now_us(ARGV[2])
if not live_epoch(KEYS[1]) then return {0, -1, whole(now + 1000000), whole(now)} end
local since = changed_us(KEYS[2])
local limits, granted = {}, n

for i = 3, #KEYS do
    local at = 4 * (i - 2) - 1
    local burst, interval = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local depth = burst * interval
    local tat = tonumber(redis.call('GET', KEYS[i]) or now + depth - interval)
    if since then tat = math.max(tat, since + depth) end
    tat = math.min(math.max(tat, now), now + depth)
    limits[i] = {tat = tat, interval = interval, depth = depth, ttl = ARGV[at + 2], kept = tonumber(ARGV[at + 3])}
    granted = math.min(granted, math.floor((now + depth - tat) / interval))
end

local function remember(key, tat, kept)
    local first = redis.call('LINDEX', key, 0)
    while first and tonumber(string.match(first, '^%d+')) < now - kept do
        redis.call('LPOP', key)
        first = redis.call('LINDEX', key, 0)
    end
    redis.call('RPUSH', key, whole(now) .. ' ' .. whole(granted) .. ' ' .. whole(tat))
    redis.call('PEXPIRE', key, whole(kept / 1000))
end

local bound, retry_at = 0, now
for i = 3, #KEYS do
    local limit = limits[i]
    local ready = limit.tat + (granted + 1) * limit.interval - limit.depth
    if ready > retry_at then bound, retry_at = i - 2, ready end
    if granted > 0 then
        redis.call('SET', KEYS[i], whole(limit.tat + granted * limit.interval), 'PX', limit.ttl)
        remember(KEYS[i] .. ':takes', limit.tat, limit.kept)
    end
end

if granted == n then return {granted, 0, '', whole(now)} end
return {granted, bound, whole(retry_at), whole(now)}
