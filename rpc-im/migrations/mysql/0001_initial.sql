-- Numbers without sign are stored as BIGINT with the same bits. Times are milliseconds since 1970.
-- The collation utf8mb4_nopad_bin compares texts by their bytes, including spaces at the end.

CREATE TABLE im_conversations (
    id VARCHAR(128) PRIMARY KEY,
    incarnation BIGINT NOT NULL,
    is_group SMALLINT NOT NULL,
    is_open SMALLINT NOT NULL,
    name TEXT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    members_version BIGINT NOT NULL,
    member_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- Roles: 0 member, 1 admin, 2 owner.
CREATE TABLE im_members (
    conversation VARCHAR(128) NOT NULL,
    user_name VARCHAR(128) NOT NULL,
    role SMALLINT NOT NULL,
    delivered_seq BIGINT NOT NULL,
    read_seq BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_name)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX im_members_by_user ON im_members (user_name, conversation);

-- The body has a binary type as in PostgreSQL. Use CONVERT(body USING utf8mb4) to search it.
CREATE TABLE im_messages (
    conversation VARCHAR(128) NOT NULL,
    seq BIGINT NOT NULL,
    sender VARCHAR(128) NOT NULL,
    device VARCHAR(128) NOT NULL,
    client_id VARCHAR(128) NOT NULL,
    kind SMALLINT NOT NULL,
    target BIGINT NOT NULL,
    stored_at BIGINT NOT NULL,
    changed SMALLINT NOT NULL,
    body LONGBLOB NOT NULL,
    PRIMARY KEY (conversation, seq)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE UNIQUE INDEX im_messages_by_client_id ON im_messages (conversation, sender, device, client_id);
CREATE INDEX im_messages_by_time ON im_messages (stored_at, conversation, seq);

-- One row: the incarnation of the directory.
CREATE TABLE im_directory (
    id SMALLINT PRIMARY KEY,
    incarnation BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE im_nodes (
    node BIGINT PRIMARY KEY,
    lease_until BIGINT NOT NULL
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- A transaction that changes the sessions of a user locks the user's row here.
CREATE TABLE im_logins (
    user_name VARCHAR(160) PRIMARY KEY
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE im_sessions (
    user_name VARCHAR(160) NOT NULL,
    device VARCHAR(128) NOT NULL,
    platform VARCHAR(128) NOT NULL,
    node BIGINT NOT NULL,
    session BIGINT NOT NULL,
    PRIMARY KEY (user_name, device)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX im_sessions_by_node ON im_sessions (node);

CREATE TABLE im_replaced (
    node BIGINT NOT NULL,
    session BIGINT NOT NULL,
    PRIMARY KEY (node, session)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
