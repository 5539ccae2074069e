-- Puts other sessions in the place of a user's, if they are still those that are expected.
-- KEYS: the user. ARGV: seconds to keep them for, the number of expected sessions, device and value of each, then those of the others.
-- Gives 1 when it has, 0 when they are different ones.
local expected = tonumber(ARGV[2])
if redis.call("HLEN", KEYS[1]) ~= expected then
  return 0
end
local first = 3 + 2 * expected
for place = 3, first - 1, 2 do
  if redis.call("HGET", KEYS[1], ARGV[place]) ~= ARGV[place + 1] then
    return 0
  end
end
redis.call("DEL", KEYS[1])
for place = first, #ARGV, 2 do
  redis.call("HSET", KEYS[1], ARGV[place], ARGV[place + 1])
end
redis.call("EXPIRE", KEYS[1], ARGV[1])
return 1
