-- People who sign in, their sessions and their tokens. The same columns as every kind has; see 0001.

CREATE TABLE paas_users (
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

-- What a bearer token is: 'standing' (of the platform itself, with its groups in the row), 'session' or 'token' (of a User,
-- whose groups are looked up).
ALTER TABLE paas_api_tokens ADD COLUMN purpose TEXT NOT NULL DEFAULT 'standing'
    CHECK (purpose IN ('standing', 'session', 'token'));
ALTER TABLE paas_api_tokens ADD COLUMN user_uid TEXT NOT NULL DEFAULT ''; -- of the User that it was made for
ALTER TABLE paas_api_tokens ADD COLUMN epoch TEXT NOT NULL DEFAULT '';    -- of the password that it was made under
ALTER TABLE paas_api_tokens ADD COLUMN scope_json TEXT;                   -- what it is good for, if for less than its user may do
ALTER TABLE paas_api_tokens ADD COLUMN last_used INTEGER;                 -- noted now and then
