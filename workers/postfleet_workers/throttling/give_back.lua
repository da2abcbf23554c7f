-- Return n permits of every limit, of the take that was answered at a given time; see gcra.py.
-- KEYS: postfleet:epoch:since, then a key per limit, as in acquire.lua. ARGV: n, when they were taken in us, now or '',
-- then per limit: burst, interval in us, and how long takes are remembered in us.
-- A key that is gone has nothing to give back to: what it lost is not granted twice.
local n, at, now = tonumber(ARGV[1]), tonumber(ARGV[2]), now_us(ARGV[3])
local since = changed_us(KEYS[1])

-- TAT had n permits less been taken then; false if that is not remembered.
local function retake(key, burst, interval, kept)
    local takes, left, first = {}, n, nil
    for i, entry in ipairs(redis.call('LRANGE', key, 0, -1)) do
        local taken, count, before = string.match(entry, '^(%d+) (%d+) (-?%d+)$')
        takes[i] = {at = tonumber(taken), n = tonumber(count), before = tonumber(before)}
    end
    for i = #takes, 1, -1 do
        local take = takes[i]
        if left > 0 and take.n > 0 and take.at == at and take.at >= now - kept then
            local back = math.min(left, take.n)
            take.n, left, first = take.n - back, left - back, i
        end
    end
    if not first then return false end
    local tat, depth = takes[first].before, burst * interval
    for i = first, #takes do
        local take = takes[i]
        if since and since <= take.at then tat = math.max(tat, since + depth) end
        tat = math.min(math.max(tat, take.at), take.at + depth)
        redis.call('LSET', key, i - 1, whole(take.at) .. ' ' .. whole(take.n) .. ' ' .. whole(tat))
        tat = tat + take.n * interval
    end
    return tat
end

for i = 2, #KEYS do
    local own = 3 * i - 2
    local burst, interval, kept = tonumber(ARGV[own]), tonumber(ARGV[own + 1]), tonumber(ARGV[own + 2])
    if redis.call('EXISTS', KEYS[i]) == 1 then
        local tat = retake(KEYS[i] .. ':takes', burst, interval, kept)
        if tat then redis.call('SET', KEYS[i], whole(tat), 'KEEPTTL') end
    end
end
return 1
