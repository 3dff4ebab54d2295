-- How far each build's log has come, in bytes of the log as it was written.
CREATE TABLE paas_build_log_heads (
    build TEXT    NOT NULL PRIMARY KEY,
    kept  INTEGER NOT NULL CHECK (kept >= 0)
) STRICT;

-- The pieces of the logs. "start" is the number of bytes that stand before a piece.
CREATE TABLE paas_build_logs (
    build TEXT    NOT NULL REFERENCES paas_build_log_heads (build) ON DELETE CASCADE,
    start INTEGER NOT NULL CHECK (start >= 0),
    text  BLOB    NOT NULL,
    PRIMARY KEY (build, start)
) STRICT;
