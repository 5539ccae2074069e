-- Changes the sessions of a user, if they are still the expected ones and the node holds its lease.
-- KEYS: the lease of the node, the user. ARGV: node, then three lists, each preceded by its length:
-- the expected sessions: device and value of each;
-- the sessions to remove: device, node, session, and "1" if the directory reports it to its node, of each;
-- the sessions to add: device, session and platform of each.
-- Returns "written", "changed" if the sessions differ from the expected ones, or "no lease".
local lease, user = KEYS[1], KEYS[2]
local node = ARGV[1]
local position = 1
local function next_argument()
  position = position + 1
  return ARGV[position]
end

local term = redis.call("GET", lease)
if not term then
  return "no lease"
end
local expected = tonumber(next_argument())
if redis.call("HLEN", user) ~= expected then
  return "changed"
end
for _ = 1, expected do
  local device = next_argument()
  local value = next_argument()
  if redis.call("HGET", user, device) ~= value then
    return "changed"
  end
end
for _ = 1, tonumber(next_argument()) do
  local device = next_argument()
  local other = next_argument()
  local session = next_argument()
  local is_reported = next_argument() == "1"
  redis.call("HDEL", user, device)
  redis.call("SREM", "im:sessions:" .. other, session .. " " .. user)
  if is_reported then
    redis.call("SADD", "im:replaced:" .. other, session)
  end
end
for _ = 1, tonumber(next_argument()) do
  local device = next_argument()
  local session = next_argument()
  local platform = next_argument()
  redis.call("HSET", user, device, node .. " " .. session .. " " .. term .. " " .. platform)
  redis.call("SADD", "im:sessions:" .. node, session .. " " .. user)
  redis.call("SREM", "im:replaced:" .. node, session)
end
return "written"
