-- Ends the lease of a node. A later renewal of another node removes its entries.
-- KEYS: the lease. ARGV: node.
redis.call("DEL", KEYS[1])
redis.call("ZADD", "im:nodes", 0, ARGV[1])
return "left"
