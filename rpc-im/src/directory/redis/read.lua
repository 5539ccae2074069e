-- Reads the sessions of users.
-- KEYS: the lease of a node, then the users.
-- Returns whether the node holds its lease, and a list for each user: device, value, and "1" if the node of the session
-- has held its lease since it registered the session, for each session.
local leases = {}
local users = {}
for index = 2, #KEYS do
  local fields = redis.call("HGETALL", KEYS[index])
  local sessions = {}
  for field = 1, #fields, 2 do
    local device, value = fields[field], fields[field + 1]
    local node, term = string.match(value, "^(%x+) %d+ (%d+) ")
    if node and leases[node] == nil then
      leases[node] = redis.call("GET", "im:node:" .. node)
    end
    table.insert(sessions, device)
    table.insert(sessions, value)
    table.insert(sessions, node and leases[node] == term and "1" or "0")
  end
  table.insert(users, sessions)
end
return { redis.call("EXISTS", KEYS[1]), users }
