-- Holds a node's number: takes it when it is free or was held by an earlier life on the same address, or renews it.
-- KEYS: the node. ARGV: epoch, address, connections, "1" when all its sessions are in the directory, milliseconds to hold it for.
-- Gives {"kept"}, {"taken"}, or {"refused", epoch, address} of who holds it.
local held = redis.call("HMGET", KEYS[1], "epoch", "address")
local epoch, address = held[1], held[2]
if epoch then
  local is_later = #epoch > #ARGV[1] or (#epoch == #ARGV[1] and epoch > ARGV[1])
  if is_later or (epoch ~= ARGV[1] and address ~= ARGV[2]) then
    return { "refused", epoch, address or "" }
  end
end
-- Who takes it does not know yet whether what it has entered before is still here.
local is_kept = epoch == ARGV[1]
local whole = is_kept and ARGV[4] or "0"
redis.call("HSET", KEYS[1], "epoch", ARGV[1], "address", ARGV[2], "connections", ARGV[3], "whole", whole)
redis.call("PEXPIRE", KEYS[1], ARGV[5])
return { is_kept and "kept" or "taken" }
