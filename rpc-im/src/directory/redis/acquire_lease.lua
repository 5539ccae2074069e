-- Acquires or renews the lease of a node id. A free lease, and one of an earlier epoch at the same address, can be acquired.
-- KEYS: the node. ARGV: epoch, address, connections, "1" if the directory has all sessions of the node, lease in milliseconds.
-- Returns {"renewed"}, {"acquired"}, or {"rejected", epoch, address} with the holder of the lease.
local held = redis.call("HMGET", KEYS[1], "epoch", "address")
local epoch, address = held[1], held[2]
if epoch then
  local is_later = #epoch > #ARGV[1] or (#epoch == #ARGV[1] and epoch > ARGV[1])
  if is_later or (epoch ~= ARGV[1] and address ~= ARGV[2]) then
    return { "rejected", epoch, address or "" }
  end
end
-- A node that acquires the lease has not checked yet whether its sessions are still here.
local is_renewal = epoch == ARGV[1]
local whole = is_renewal and ARGV[4] or "0"
redis.call("HSET", KEYS[1], "epoch", ARGV[1], "address", ARGV[2], "connections", ARGV[3], "whole", whole)
redis.call("PEXPIRE", KEYS[1], ARGV[5])
return { is_renewal and "renewed" or "acquired" }
