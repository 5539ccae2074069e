-- Lets go of a node's number, unless another life of the node holds it.
-- KEYS: the node. ARGV: epoch.
if redis.call("HGET", KEYS[1], "epoch") == ARGV[1] then
  return redis.call("DEL", KEYS[1])
end
return 0
