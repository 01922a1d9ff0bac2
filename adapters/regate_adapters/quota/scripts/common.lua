-- The time of the server, and the windows of budgets. Precedes the other scripts.
-- KEYS: four for each account: its last minute, what runs, its day, its month.
-- ARGV[1]: milliseconds by which the clock is ahead (tests alone); ARGV[2]: how long what runs is believed to.

local DAY = 86400
local MINUTE = 61 -- a request counted within second n is 60 seconds old at the end of second n + 60
local KEPT = 3600

local function month_of(epoch) -- months since the year 0, by H. Hinnant's civil_from_days
  local z = math.floor(epoch / DAY) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor(
    (doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return year * 12 + month - 1
end

local function month_begins(number) -- epoch seconds, by days_from_civil
  local month = number % 12 + 1
  local year = math.floor(number / 12) - (month <= 2 and 1 or 0)
  local era = math.floor(year / 400)
  local yoe = year - era * 400
  local doy = math.floor((153 * ((month + 9) % 12) + 2) / 5)
  local doe = yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy
  return (era * 146097 + doe - 719468) * DAY
end

local WINDOWS = {
  {name = "day", key = 3, of = function(epoch) return math.floor(epoch / DAY) end,
    ends = function(number) return (number + 1) * DAY end},
  {name = "month", key = 4, of = month_of,
    ends = function(number) return month_begins(number + 1) end},
}
local UNITS = {"requests", "tokens", "cost"}

local time = redis.call("TIME")
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local now = math.floor(now_ms / 1000)
local lease_ms = tonumber(ARGV[2])

local function key_of(account, which)
  return KEYS[4 * (account - 1) + which]
end

local function add_to_minute(key, second, what, more)
  if more ~= "0" then
    redis.call("HINCRBY", key, what .. string.format("%d", second), more)
    redis.call("PEXPIRE", key, (MINUTE + 1) * 1000)
  end
end

local function run(key, lease)
  redis.call("ZADD", key, now_ms + lease_ms, lease)
  redis.call("PEXPIRE", key, lease_ms + 1000)
end
