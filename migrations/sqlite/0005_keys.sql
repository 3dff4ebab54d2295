-- The master keys that bodies of sensitive kinds may be sealed with: such a body is text that begins with "sealed:". The keys
-- themselves are not here.
CREATE TABLE store_keys (
    id       TEXT PRIMARY KEY, -- follows from the key and does not tell it
    created  INTEGER NOT NULL, -- when it was first used; microseconds since 1970 (UTC)
    complete INTEGER NOT NULL CHECK (complete IN (0, 1)) -- whether everything that is to be sealed is, with whichever key
) STRICT;
