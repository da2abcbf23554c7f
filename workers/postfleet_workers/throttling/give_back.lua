-- Return n permits of every limit. KEYS: a key per limit, as in acquire.lua. ARGV: n, then per limit its interval in us.
-- A key that is gone has nothing to give back to: what it lost is not granted twice.
for i = 1, #KEYS do
    local tat = redis.call('GET', KEYS[i])
    if tat then
        redis.call('SET', KEYS[i], whole(tonumber(tat) - tonumber(ARGV[1]) * tonumber(ARGV[i + 1])), 'KEEPTTL')
    end
end
return 1
