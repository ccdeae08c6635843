-- A person or an organisation: whoever can own things. Names are lower case.
CREATE TABLE identity_owner (
	id {{id}},
	name TEXT NOT NULL UNIQUE,
	full_name TEXT NOT NULL,
	org BOOLEAN NOT NULL,
	created BIGINT NOT NULL
);

CREATE TABLE identity_person (
	id BIGINT PRIMARY KEY REFERENCES identity_owner (id) ON DELETE CASCADE,
	email TEXT NOT NULL,
	password TEXT NOT NULL, -- empty: none, sign in by other means
	admin BOOLEAN NOT NULL,
	active BOOLEAN NOT NULL,
	lang TEXT NOT NULL,
	theme TEXT NOT NULL
);

-- base: the role of each member on everything of the organisation; 0 is none.
CREATE TABLE identity_org (
	id BIGINT PRIMARY KEY REFERENCES identity_owner (id) ON DELETE CASCADE,
	base INTEGER NOT NULL
);

CREATE TABLE identity_member (
	org BIGINT NOT NULL REFERENCES identity_org (id) ON DELETE CASCADE,
	person BIGINT NOT NULL REFERENCES identity_person (id) ON DELETE CASCADE,
	owns BOOLEAN NOT NULL,
	PRIMARY KEY (org, person)
);
CREATE INDEX identity_member_person ON identity_member (person);

-- role: on everything of the organisation; 0 is only on what is granted.
CREATE TABLE identity_team (
	id {{id}},
	org BIGINT NOT NULL REFERENCES identity_org (id) ON DELETE CASCADE,
	name TEXT NOT NULL,
	role INTEGER NOT NULL,
	UNIQUE (org, name)
);

CREATE TABLE identity_team_member (
	team BIGINT NOT NULL REFERENCES identity_team (id) ON DELETE CASCADE,
	person BIGINT NOT NULL REFERENCES identity_person (id) ON DELETE CASCADE,
	PRIMARY KEY (team, person)
);
CREATE INDEX identity_team_member_person ON identity_team_member (person);

CREATE TABLE identity_grant (
	kind TEXT NOT NULL,
	object BIGINT NOT NULL,
	person BIGINT REFERENCES identity_person (id) ON DELETE CASCADE,
	team BIGINT REFERENCES identity_team (id) ON DELETE CASCADE,
	role INTEGER NOT NULL,
	CHECK ((person IS NULL) <> (team IS NULL)),
	UNIQUE (kind, object, person),
	UNIQUE (kind, object, team)
);
CREATE INDEX identity_grant_person ON identity_grant (person, kind);
CREATE INDEX identity_grant_team ON identity_grant (team, kind);

CREATE TABLE identity_session (
	hash {{bytes}} PRIMARY KEY,
	person BIGINT NOT NULL REFERENCES identity_person (id) ON DELETE CASCADE,
	created BIGINT NOT NULL,
	seen BIGINT NOT NULL,
	expires BIGINT NOT NULL
);
CREATE INDEX identity_session_person ON identity_session (person);

CREATE TABLE identity_code (
	hash {{bytes}} PRIMARY KEY,
	person BIGINT NOT NULL REFERENCES identity_person (id) ON DELETE CASCADE,
	expires BIGINT NOT NULL
);

CREATE TABLE identity_token (
	id {{id}},
	person BIGINT NOT NULL REFERENCES identity_person (id) ON DELETE CASCADE,
	name TEXT NOT NULL,
	hash {{bytes}} NOT NULL UNIQUE,
	scope TEXT, -- JSON; NULL: unrestricted
	created BIGINT NOT NULL,
	used BIGINT,
	UNIQUE (person, name)
);

CREATE TABLE identity_key (
	id {{id}},
	person BIGINT NOT NULL REFERENCES identity_person (id) ON DELETE CASCADE,
	title TEXT NOT NULL,
	public TEXT NOT NULL,
	fingerprint TEXT NOT NULL UNIQUE,
	created BIGINT NOT NULL,
	used BIGINT
);
CREATE INDEX identity_key_person ON identity_key (person);

-- Outlives the people in it.
CREATE TABLE identity_audit (
	id {{id}},
	at BIGINT NOT NULL,
	person BIGINT NOT NULL,
	name TEXT NOT NULL,
	action TEXT NOT NULL,
	object TEXT NOT NULL,
	detail TEXT NOT NULL
);

CREATE VIEW owner AS SELECT id, name, full_name, org FROM identity_owner;

CREATE VIEW person AS
	SELECT p.id, o.name, o.full_name, p.email, p.admin, p.lang, p.theme, o.created
	FROM identity_person p JOIN identity_owner o ON o.id = p.id;

-- Who has which role on everything of an owner. 1 is reader, 2 writer, 3 manager.
CREATE VIEW identity_reach AS
	SELECT id AS person, id AS owner, 3 AS role FROM identity_person
	UNION ALL
	SELECT person, org, 3 FROM identity_member WHERE owns
	UNION ALL
	SELECT m.person, m.org, o.base FROM identity_member m JOIN identity_org o ON o.id = m.org WHERE o.base > 0
	UNION ALL
	SELECT m.person, t.org, t.role FROM identity_team_member m JOIN identity_team t ON t.id = m.team WHERE t.role > 0;

-- Who has which role on one object.
CREATE VIEW identity_granted AS
	SELECT person, kind, object, role FROM identity_grant WHERE person IS NOT NULL
	UNION ALL
	SELECT m.person, g.kind, g.object, g.role FROM identity_grant g JOIN identity_team_member m ON m.team = g.team;
