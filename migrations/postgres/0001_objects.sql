-- The store of the API server: a table for each kind of resource, the revision, the log of recent changes, and tokens.
--
-- Times are microseconds since 1970 (UTC). A body is the whole object as JSON, as it is sent to clients: text, because it
-- must come back byte by byte. Names are compared byte by byte, as in the server's memory.

-- One row: where the store is. Whoever writes holds it locked until the commit, so that revisions are in the order of
-- commits whichever of several servers wrote.
CREATE TABLE store_meta (
    id                 BIGINT PRIMARY KEY CHECK (id = 1),
    revision           BIGINT NOT NULL, -- of the last committed write
    compacted_revision BIGINT NOT NULL, -- store_changes has every change after this one
    tokens_version     BIGINT NOT NULL DEFAULT 0 -- rises with every change of paas_api_tokens, so that the other servers read them
) WITH (fillfactor = 10);
INSERT INTO store_meta (id, revision, compacted_revision, tokens_version) VALUES (1, 0, 0, 0);

-- Recent changes, so that watching clients can go on after a restart and other servers hear of them. It is an undo log:
-- with the present state and the states before each change, every state between can be told.
CREATE TABLE store_changes (
    revision          BIGINT PRIMARY KEY, -- dense, in the order of commits
    time              BIGINT NOT NULL,
    kind              TEXT COLLATE "C" NOT NULL, -- the kind's table
    namespace         TEXT COLLATE "C" NOT NULL, -- empty for cluster-scoped kinds
    name              TEXT COLLATE "C" NOT NULL,
    operation         TEXT COLLATE "C" NOT NULL CHECK (operation IN ('created', 'updated', 'deleted')),
    last              TEXT,               -- the last state, if this deleted it
    previous          TEXT,               -- the state before, unless this created it
    previous_modified BIGINT,             -- and when that was written
    writer            BIGINT NOT NULL DEFAULT 0 -- the server that wrote it, so that it knows its own after a lost connection
) WITH (
    -- Rows come at one end and leave at the other: the empty pages are to be used again after so many, not after a fifth.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000
);

-- Bearer tokens. The secret itself is not kept.
CREATE TABLE paas_api_tokens (
    id          TEXT COLLATE "C" PRIMARY KEY,
    hash        BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32), -- SHA-256 of the secret
    user_name   TEXT NOT NULL,
    groups_json TEXT NOT NULL CHECK (json_typeof(groups_json::json) = 'array'),
    created     BIGINT NOT NULL,
    expires     BIGINT,
    description TEXT NOT NULL,
    revoked     BIGINT
);

-- The kinds: the same columns in all of them. The room left on each page is for the next state of the same rows, which
-- then needs no work on the indexes.

CREATE TABLE paas_plans (
    namespace  TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    uid        TEXT COLLATE "C" NOT NULL UNIQUE,
    revision   BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    modified   BIGINT NOT NULL,
    deleted    BIGINT, -- since when it is being deleted, while finalizers hold it
    body       TEXT NOT NULL,
    PRIMARY KEY (namespace, name)
) WITH (fillfactor = 80);

CREATE TABLE paas_runtimes (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE paas_nodes (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE paas_applications (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE paas_builds (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE paas_releases (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE paas_instances (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_namespaces (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_secrets (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_configmaps (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_events (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_leases (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE core_serviceaccounts (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);
