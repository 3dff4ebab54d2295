-- Who may do what: roles and who has them. The same columns as every kind has; see 0001.

CREATE TABLE core_roles (
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

CREATE TABLE core_clusterroles (
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

CREATE TABLE core_rolebindings (
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

CREATE TABLE core_clusterrolebindings (
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
