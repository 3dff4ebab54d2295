-- How far each build's log has come, in bytes of the log as it was written.
CREATE TABLE paas_build_log_heads (
    build TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kept  BIGINT NOT NULL CHECK (kept >= 0)
);

-- The pieces of the logs. "start" is the number of bytes that stand before a piece.
CREATE TABLE paas_build_logs (
    build TEXT COLLATE "C" NOT NULL REFERENCES paas_build_log_heads (build) ON DELETE CASCADE,
    start BIGINT NOT NULL CHECK (start >= 0),
    text  BYTEA NOT NULL,
    PRIMARY KEY (build, start)
);
