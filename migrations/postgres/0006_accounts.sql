-- People who sign in, their sessions and their tokens.

CREATE TABLE paas_users (LIKE paas_plans INCLUDING ALL) WITH (fillfactor = 80);

-- What a bearer token is: 'standing' (of the platform itself, with its groups in the row), 'session' or 'token' (of a User,
-- whose groups are looked up).
ALTER TABLE paas_api_tokens ADD COLUMN purpose TEXT COLLATE "C" NOT NULL DEFAULT 'standing'
    CHECK (purpose IN ('standing', 'session', 'token'));
ALTER TABLE paas_api_tokens ADD COLUMN user_uid TEXT COLLATE "C" NOT NULL DEFAULT ''; -- of the User that it was made for
ALTER TABLE paas_api_tokens ADD COLUMN epoch TEXT COLLATE "C" NOT NULL DEFAULT '';    -- of the password that it was made under
ALTER TABLE paas_api_tokens ADD COLUMN scope_json TEXT; -- what it is good for, if for less than its user may do
ALTER TABLE paas_api_tokens ADD COLUMN last_used BIGINT; -- noted now and then
