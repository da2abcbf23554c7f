-- KEYS: epoch, since. ARGV: uuid of a new epoch, 1 if there are live workers. Returns {epoch, 1 if it is new}.
local epoch = live_epoch(KEYS[1])
if epoch then return {epoch, 0} end
epoch = run_id() .. ':' .. ARGV[1]
redis.call('SET', KEYS[1], epoch)
if ARGV[2] == '1' then
    redis.call('SET', KEYS[2], string.format('%.6f', now_us() / 1000000))
end
return {epoch, 1}
