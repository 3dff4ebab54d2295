-- The audit log: a line for each mutation, written in the same transaction, and for what was refused. Times are
-- microseconds since 1970 (UTC). No secret stands in a record.
CREATE TABLE store_audit (
    id        INTEGER PRIMARY KEY, -- rises with every line
    time      INTEGER NOT NULL,
    user_name TEXT    NOT NULL,
    namespace TEXT    NOT NULL, -- empty for what belongs to no namespace
    resource  TEXT    NOT NULL, -- plural.group, or a path
    verb      TEXT    NOT NULL,
    record    TEXT    NOT NULL  -- all of it, as JSON
) STRICT;
CREATE INDEX store_audit_namespace ON store_audit (namespace, id);
