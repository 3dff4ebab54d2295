-- The audit log: a line for each mutation, written in the same transaction, and for what was refused. Times are
-- microseconds since 1970 (UTC). No secret stands in a record.
CREATE TABLE store_audit (
    id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- rises with every line, as far as one server's go
    time      BIGINT NOT NULL,
    user_name TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL, -- empty for what belongs to no namespace
    resource  TEXT COLLATE "C" NOT NULL, -- plural.group, or a path
    verb      TEXT COLLATE "C" NOT NULL,
    record    TEXT NOT NULL              -- all of it, as JSON
);
CREATE INDEX store_audit_namespace ON store_audit (namespace, id);
