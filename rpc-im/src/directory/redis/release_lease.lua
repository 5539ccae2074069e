-- Releases the lease of a node id, unless another epoch of the node holds it.
-- KEYS: the node. ARGV: epoch.
if redis.call("HGET", KEYS[1], "epoch") == ARGV[1] then
  return redis.call("DEL", KEYS[1])
end
return 0
