-- Numbers without sign are stored as BIGINT with the same bits. Times are milliseconds since 1970.
-- The collation "C" compares texts by their bytes. Free pages let updates of counters stay in their page.

CREATE TABLE im_conversations (
    id TEXT COLLATE "C" PRIMARY KEY,
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
) WITH (fillfactor = 70);

-- Roles: 0 member, 1 admin, 2 owner.
CREATE TABLE im_members (
    conversation TEXT COLLATE "C" NOT NULL,
    user_name TEXT COLLATE "C" NOT NULL,
    role SMALLINT NOT NULL,
    delivered_seq BIGINT NOT NULL,
    read_seq BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_name)
) WITH (fillfactor = 70);
CREATE INDEX im_members_by_user ON im_members (user_name, conversation);

-- The body has type BYTEA because TEXT cannot contain U+0000. Use convert_from(body, 'UTF8') to search it.
CREATE TABLE im_messages (
    conversation TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    sender TEXT COLLATE "C" NOT NULL,
    device TEXT COLLATE "C" NOT NULL,
    client_id TEXT COLLATE "C" NOT NULL,
    kind SMALLINT NOT NULL,
    target BIGINT NOT NULL,
    stored_at BIGINT NOT NULL,
    changed SMALLINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (conversation, seq)
);
CREATE UNIQUE INDEX im_messages_by_client_id ON im_messages (conversation, sender, device, client_id);
CREATE INDEX im_messages_by_time ON im_messages (stored_at, conversation, seq);

-- One row: the incarnation of the directory.
CREATE TABLE im_directory (
    id SMALLINT PRIMARY KEY,
    incarnation BIGINT NOT NULL
);

CREATE TABLE im_nodes (
    node BIGINT PRIMARY KEY,
    lease_until BIGINT NOT NULL
) WITH (fillfactor = 50);

-- A transaction that changes the sessions of a user locks the user's row here.
CREATE TABLE im_logins (
    user_name TEXT COLLATE "C" PRIMARY KEY
);

CREATE TABLE im_sessions (
    user_name TEXT COLLATE "C" NOT NULL,
    device TEXT COLLATE "C" NOT NULL,
    platform TEXT COLLATE "C" NOT NULL,
    node BIGINT NOT NULL,
    session BIGINT NOT NULL,
    PRIMARY KEY (user_name, device)
);
CREATE INDEX im_sessions_by_node ON im_sessions (node);

CREATE TABLE im_replaced (
    node BIGINT NOT NULL,
    session BIGINT NOT NULL,
    PRIMARY KEY (node, session)
);
