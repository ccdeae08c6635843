CREATE TABLE forge_repo (
	id             {{id}},
	owner          BIGINT NOT NULL,
	name           TEXT NOT NULL,
	name_key       TEXT NOT NULL, -- lower case: two names that differ only in case are one
	description    TEXT NOT NULL,
	visibility     INTEGER NOT NULL,
	default_branch TEXT NOT NULL,
	created        BIGINT NOT NULL,
	pushed         BIGINT,
	UNIQUE (owner, name_key)
);

-- Repositories that were deleted and whose directories may still have to be.
CREATE TABLE forge_doomed (id BIGINT PRIMARY KEY);
