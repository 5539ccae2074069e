-- Replaces the sessions of a user, if they are still the expected ones.
-- KEYS: the user. ARGV: expiry in seconds, the number of expected sessions, device and value of each, then device and value of each new one.
-- Returns 1 if it replaced them, 0 if they differ from the expected ones.
local expected = tonumber(ARGV[2])
if redis.call("HLEN", KEYS[1]) ~= expected then
  return 0
end
local first = 3 + 2 * expected
for index = 3, first - 1, 2 do
  if redis.call("HGET", KEYS[1], ARGV[index]) ~= ARGV[index + 1] then
    return 0
  end
end
redis.call("DEL", KEYS[1])
for index = first, #ARGV, 2 do
  redis.call("HSET", KEYS[1], ARGV[index], ARGV[index + 1])
end
redis.call("EXPIRE", KEYS[1], ARGV[1])
return 1
