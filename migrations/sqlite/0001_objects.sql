-- The store of the API server: a table for each kind of resource, the revision, the log of recent changes, and tokens.
--
-- Times are microseconds since 1970 (UTC). A body is the whole object as JSON, as it is sent to clients.

-- One row: where the store is.
CREATE TABLE store_meta (
    id                 INTEGER PRIMARY KEY CHECK (id = 1),
    revision           INTEGER NOT NULL, -- of the last committed write
    compacted_revision INTEGER NOT NULL  -- store_changes has every change after this one
) STRICT;
INSERT INTO store_meta (id, revision, compacted_revision) VALUES (1, 0, 0);

-- Recent changes, so that watching clients can go on after a restart. It is an undo log: with the present state and the
-- states before each change, every state between can be told.
CREATE TABLE store_changes (
    revision          INTEGER PRIMARY KEY, -- dense, in the order of commits
    time              INTEGER NOT NULL,
    kind              TEXT    NOT NULL,    -- the kind's table
    namespace         TEXT    NOT NULL,    -- empty for cluster-scoped kinds
    name              TEXT    NOT NULL,
    operation         TEXT    NOT NULL CHECK (operation IN ('created', 'updated', 'deleted')),
    last              TEXT,                -- the last state, if this deleted it
    previous          TEXT,                -- the state before, unless this created it
    previous_modified INTEGER              -- and when that was written
) STRICT;

-- Bearer tokens. The secret itself is not kept.
CREATE TABLE paas_api_tokens (
    id          TEXT PRIMARY KEY,
    hash        BLOB NOT NULL UNIQUE CHECK (length(hash) = 32), -- SHA-256 of the secret
    user_name   TEXT NOT NULL,
    groups_json TEXT NOT NULL CHECK (json_valid(groups_json)),
    created     INTEGER NOT NULL,
    expires     INTEGER,
    description TEXT NOT NULL,
    revoked     INTEGER
) STRICT;

-- The kinds: the same columns in all of them.

CREATE TABLE paas_plans (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE paas_runtimes (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE paas_nodes (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE paas_applications (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE paas_builds (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE paas_releases (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE paas_instances (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE core_namespaces (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE core_secrets (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE core_configmaps (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE core_events (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE core_leases (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;

CREATE TABLE core_serviceaccounts (
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    deleted    INTEGER, -- since when it is being deleted, while finalizers hold it
    body       TEXT    NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT;
