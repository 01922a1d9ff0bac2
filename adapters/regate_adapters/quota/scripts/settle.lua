-- Correct what a request was counted with, and let it no longer run.
-- ARGV[3]: its lease; ARGV[4], ARGV[5]: more or fewer tokens and cost; ARGV[6]: the second in which it was
-- counted; ARGV[7]: "1" where it has ended; ARGV[8]: of each account whether its minute is counted, as "1" or "0".

local lease, at = ARGV[3], tonumber(ARGV[6])
local more = {tokens = ARGV[4], cost = ARGV[5]}

for index = 1, #KEYS / 4 do
  local minute = key_of(index, 1)
  if ARGV[8]:sub(index, index) == "1" then
    if tonumber(more.tokens) > 0 then
      add_to_minute(minute, now, "t", more.tokens)
    elseif at > now - MINUTE then
      local what = string.format("t%d", at)
      local counted = tonumber(redis.call("HGET", minute, what) or "0")
      local less = math.min(counted, -tonumber(more.tokens))
      if less > 0 then redis.call("HINCRBY", minute, what, string.format("-%.0f", less)) end
    end
  end
  for _, window in ipairs(WINDOWS) do
    local key = key_of(index, window.key)
    local found = redis.call("HMGET", key, "number", "tokens", "cost")
    if tonumber(found[1]) == window.of(now) then
      for i, unit in ipairs({"tokens", "cost"}) do
        local by, spent = tonumber(more[unit]), tonumber(found[i + 1])
        -- What is more is spent now; what is less was never spent, if it was counted in this window.
        if by > 0 then
          redis.call("HINCRBY", key, unit, more[unit])
        elseif by < 0 and window.of(at) == window.of(now) then
          redis.call("HINCRBY", key, unit, string.format("-%.0f", math.min(spent, -by)))
        end
      end
    end
  end
  if ARGV[7] == "1" then redis.call("ZREM", key_of(index, 2), lease) end
end
return "1"
