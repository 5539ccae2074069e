-- The nodes of a cluster that finds them here (--membership). `expires_at` is in milliseconds since 1970.

CREATE TABLE im_cluster (
    node BIGINT PRIMARY KEY,
    address TEXT COLLATE "C" NOT NULL,
    websocket TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL
) WITH (fillfactor = 50);
