-- Acquires or renews the lease of a node, and removes entries of a node whose lease has expired.
-- KEYS: the lease of the node. ARGV: node, lease in milliseconds, a random number, the number of entries to remove.
-- Returns whether the node held no lease, the sessions to report, the stored random number, and two sections of INFO.
local node, lease = ARGV[1], ARGV[2]
local term = redis.call("GET", KEYS[1])
redis.call("SET", KEYS[1], term or ARGV[3], "PX", lease)
redis.call("SET", "im:incarnation", ARGV[3], "NX")
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call("ZADD", "im:nodes", now + lease, node)

-- The lease key decides whether a lease has expired, because the scores depend on the wall clock of the server.
local expired = redis.call("ZRANGEBYSCORE", "im:nodes", "-inf", now, "LIMIT", 0, 1)[1]
if expired and redis.call("EXISTS", "im:node:" .. expired) == 1 then
  redis.call("ZADD", "im:nodes", now + lease, expired)
elseif expired then
  local sessions = "im:sessions:" .. expired
  for _, member in ipairs(redis.call("SPOP", sessions, ARGV[4])) do
    local session, user = string.match(member, "^(%d+) (.*)$")
    local prefix = expired .. " " .. session .. " "
    local fields = redis.call("HGETALL", user)
    for index = 1, #fields, 2 do
      if string.sub(fields[index + 1], 1, #prefix) == prefix then
        redis.call("HDEL", user, fields[index])
      end
    end
  end
  if redis.call("EXISTS", sessions) == 0 then
    redis.call("DEL", "im:replaced:" .. expired)
    redis.call("ZREM", "im:nodes", expired)
  end
end

return {
  term and 0 or 1,
  redis.call("SMEMBERS", "im:replaced:" .. node),
  redis.call("GET", "im:incarnation"),
  redis.call("INFO", "server"),
  redis.call("INFO", "replication"),
}
