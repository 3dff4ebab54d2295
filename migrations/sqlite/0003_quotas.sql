-- Quotas, and the kinds themselves as read-only objects.

CREATE TABLE core_resourcequotas (
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

CREATE TABLE core_definitions (
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
