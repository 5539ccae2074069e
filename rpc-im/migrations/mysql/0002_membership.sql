-- The nodes of a cluster that finds them here (--membership). `expires_at` is in milliseconds since 1970.

CREATE TABLE im_cluster (
    node BIGINT PRIMARY KEY,
    address VARCHAR(64) NOT NULL,
    websocket VARCHAR(2048) NOT NULL,
    expires_at BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
