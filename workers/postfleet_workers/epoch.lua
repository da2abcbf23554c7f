-- Shared head of every script: the server's clock, and whether the epoch is live. See epoch.py for the keys.

-- Server time in microseconds; a test may give its own (an empty string means the server's).
local function now_us(given)
    if given and given ~= '' then return tonumber(given) end
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- The running server's id; new at each start. About 10 microseconds.
local function run_id()
    return string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
end

-- The epoch, if it names the running server; else false (emptied or restarted, and no relay has noticed yet). A caller
-- that knows the server by its connection gives its id.
local function live_epoch(key, id)
    local epoch = redis.call('GET', key)
    if epoch and string.match(epoch, '^(%w+):') == (id or run_id()) then return epoch end
    return false
end

-- Server time in microseconds of the last change of epoch that found live workers; else false.
local function changed_us(key)
    local since = redis.call('GET', key)
    return since and math.floor(tonumber(since) * 1000000 + 0.5)
end

-- Lua writes large numbers as 1.8e+15: always through here.
local function whole(number)
    return string.format('%.0f', number)
end

