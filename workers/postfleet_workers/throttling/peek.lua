-- Read the state of many limits at one instant. KEYS and the meaning of values as in acquire.lua. ARGV: now or ''.
-- Returns {now in us, 1 if the epoch is live, since in us or '', then each limit's TAT or ''}.
local since = changed_us(KEYS[2])
local found = {whole(now_us(ARGV[1])), live_epoch(KEYS[1]) and 1 or 0, since and whole(since) or ''}
for i = 3, #KEYS do
    found[i + 1] = redis.call('GET', KEYS[i]) or ''
end
return found
