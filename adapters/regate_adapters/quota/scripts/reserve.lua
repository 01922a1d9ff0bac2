-- Count one request in all accounts, or in none.
-- ARGV[3]: its lease; ARGV[4], ARGV[5]: tokens and cost; ARGV[6]: the accounts, each with its limits and with
-- `seeds`, what a window had spent before it was counted here; ARGV[7]: "1" where such seeds can be had.
-- Answers {at, unknown} where seeds are wanted, else {at, refused, used}: of each account and limit how much is
-- used, and in how many milliseconds nothing will be.

local lease, tokens, cost = ARGV[3], ARGV[4], ARGV[5]
local asked = {requests = 1, tokens = tonumber(tokens), cost = tonumber(cost)}
local accounts = cjson.decode(ARGV[6])
local unknown, refused, states = {}, {}, {}

local function minute_of(key)
  local state = {r = 0, t = 0, last = {}, seconds = {}, by = {}}
  local found = redis.call("HGETALL", key)
  for i = 1, #found, 2 do
    local what, second, count = found[i]:sub(1, 1), tonumber(found[i]:sub(2)), tonumber(found[i + 1])
    -- What lies ahead was counted before the clock was set back.
    if second <= now - MINUTE or second > now then
      redis.call("HDEL", key, found[i])
    elseif count > 0 then
      state[what] = state[what] + count
      state.last[what] = math.max(state.last[what] or 0, second)
      if not state.by[second] then
        state.by[second] = {r = 0, t = 0}
        table.insert(state.seconds, second)
      end
      state.by[second][what] = count
    end
  end
  return state
end

local function past_ms(second)
  return second and (second + MINUTE) * 1000 - now_ms or 0
end

local function room_ms(state, what, excess)
  table.sort(state.seconds)
  for _, second in ipairs(state.seconds) do
    excess = excess - state.by[second][what]
    if excess <= 0 then return past_ms(second) end
  end
  return 60000
end

local function refuse(account, meter, wanted, after_ms)
  table.insert(refused, {account, meter, wanted, after_ms})
end

local function period_of(index, account, window)
  local limits, number = account[window.name], window.of(now)
  if not limits then return nil end
  local found = redis.call("HMGET", key_of(index, window.key), "number", unpack(UNITS))
  local period = {number = number, is_there = tonumber(found[1]) == number}
  for i, unit in ipairs(UNITS) do
    period[unit] = period.is_there and tonumber(found[i + 1]) or 0
  end
  local seed = account.seeds and account.seeds[window.name]
  if not period.is_there and seed and seed.number == number then
    for _, unit in ipairs(UNITS) do period[unit] = seed[unit] or 0 end
  elseif not period.is_there and ARGV[7] == "1" then
    table.insert(unknown, {index, window.name, number})
  end
  return period
end

for index, account in ipairs(accounts) do
  local state = {}
  if account.rpm or account.tpm then
    state.minute = minute_of(key_of(index, 1))
    for meter, what in pairs({rpm = "r", tpm = "t"}) do
      local wanted = what == "r" and 1 or asked.tokens
      local excess = account[meter] and state.minute[what] + wanted - account[meter] or 0
      if excess > 0 then refuse(index, meter, wanted, room_ms(state.minute, what, excess)) end
    end
  end
  if account.concurrent then
    local key = key_of(index, 2)
    redis.call("ZREMRANGEBYSCORE", key, "-inf", now_ms)
    redis.call("ZREMRANGEBYSCORE", key, now_ms + lease_ms + 1000, "+inf")
    state.running = redis.call("ZCARD", key)
    if state.running >= account.concurrent then
      refuse(index, "concurrent", 1, account.concurrent > 0 and 1000 or 60000)
    end
  end
  for _, window in ipairs(WINDOWS) do
    local period = period_of(index, account, window)
    state[window.name] = period
    for unit, most in pairs(account[window.name] or {}) do
      if period[unit] >= most then
        refuse(index, unit .. "_per_" .. window.name, asked[unit], window.ends(period.number) * 1000 - now_ms)
      end
    end
  end
  states[index] = state
end

if #unknown > 0 then
  return cjson.encode({at = now, unknown = unknown})
end

if #refused == 0 then
  for index, account in ipairs(accounts) do
    local state = states[index]
    if state.minute then
      add_to_minute(key_of(index, 1), now, "r", "1")
      add_to_minute(key_of(index, 1), now, "t", tokens)
      state.minute.r, state.minute.t = state.minute.r + 1, state.minute.t + asked.tokens
      state.minute.last.r = now
      state.minute.last.t = asked.tokens > 0 and now or state.minute.last.t
    end
    if account.concurrent then
      run(key_of(index, 2), lease)
      state.running = state.running + 1
    end
    for _, window in ipairs(WINDOWS) do
      local period, key = state[window.name], key_of(index, window.key)
      if period then
        if not period.is_there then
          redis.call("DEL", key)
          redis.call("HSET", key, "number", period.number)
          for _, unit in ipairs(UNITS) do redis.call("HSET", key, unit, string.format("%.0f", period[unit])) end
        end
        for unit, more in pairs({requests = "1", tokens = tokens, cost = cost}) do
          redis.call("HINCRBY", key, unit, more)
          period[unit] = period[unit] + asked[unit]
        end
        redis.call("EXPIRE", key, math.ceil(window.ends(period.number) - now + KEPT))
      end
    end
  end
end

local used = {}
for index, account in ipairs(accounts) do
  local state, of = states[index], {}
  if account.rpm then of.rpm = {state.minute.r, past_ms(state.minute.last.r)} end
  if account.tpm then of.tpm = {state.minute.t, past_ms(state.minute.last.t)} end
  if account.concurrent then of.concurrent = {state.running, 0} end
  for _, window in ipairs(WINDOWS) do
    for unit in pairs(account[window.name] or {}) do
      local period = state[window.name]
      of[unit .. "_per_" .. window.name] = {period[unit], window.ends(period.number) * 1000 - now_ms}
    end
  end
  used[index] = of
end
return cjson.encode({at = now, refused = refused, used = used})
