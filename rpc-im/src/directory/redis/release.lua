-- Removes exactly these sessions, also from those that the directory reports to their nodes.
-- KEYS: the user of each session. ARGV: device, node, session and platform of each.
for index, user in ipairs(KEYS) do
  local first = 4 * index - 3
  local device, node, session, platform = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
  local value = redis.call("HGET", user, device) or ""
  local own_node, own_session, own_platform = string.match(value, "^(%x+) (%d+) %d+ (.*)$")
  if own_node == node and own_session == session and own_platform == platform then
    redis.call("HDEL", user, device)
    redis.call("SREM", "im:sessions:" .. node, session .. " " .. user)
  end
  redis.call("SREM", "im:replaced:" .. node, session)
end
return "released"
