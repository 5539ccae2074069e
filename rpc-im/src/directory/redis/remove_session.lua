-- Removes a session, unless another session of the device has replaced it.
-- KEYS: the user. ARGV: device, value.
if redis.call("HGET", KEYS[1], ARGV[1]) == ARGV[2] then
  return redis.call("HDEL", KEYS[1], ARGV[1])
end
return 0
