CREATE TABLE apps_app (
	id {{id}},
	uuid TEXT NOT NULL UNIQUE,
	name TEXT NOT NULL UNIQUE,
	owner_id BIGINT NOT NULL,
	repo_id BIGINT NOT NULL,
	repo_path TEXT NOT NULL,
	branch TEXT NOT NULL,
	destroying BIGINT NOT NULL,
	created BIGINT NOT NULL,
	updated BIGINT NOT NULL
);
CREATE INDEX apps_app_repo ON apps_app (repo_id, branch);

-- A configuration never changes: each change is a new row. The body is sealed JSON.
CREATE TABLE apps_config (
	id {{id}},
	uuid TEXT NOT NULL UNIQUE,
	app_id BIGINT NOT NULL REFERENCES apps_app (id) ON DELETE CASCADE,
	author TEXT NOT NULL,
	body {{bytes}} NOT NULL,
	created BIGINT NOT NULL
);
CREATE INDEX apps_config_app ON apps_config (app_id, id);

-- The cause is what asked for the build, such as one push: asking again changes nothing.
CREATE TABLE apps_build (
	id {{id}},
	uuid TEXT NOT NULL UNIQUE,
	app_id BIGINT NOT NULL REFERENCES apps_app (id) ON DELETE CASCADE,
	author TEXT NOT NULL,
	cause TEXT NOT NULL,
	sha TEXT NOT NULL,
	branch TEXT NOT NULL,
	state TEXT NOT NULL,
	reason TEXT NOT NULL,
	result TEXT NOT NULL,
	created BIGINT NOT NULL,
	finished BIGINT,
	UNIQUE (app_id, cause)
);
CREATE INDEX apps_build_app ON apps_build (app_id, id);

CREATE TABLE apps_release (
	id {{id}},
	uuid TEXT NOT NULL UNIQUE,
	app_id BIGINT NOT NULL REFERENCES apps_app (id) ON DELETE CASCADE,
	version BIGINT NOT NULL,
	author TEXT NOT NULL,
	build_id BIGINT REFERENCES apps_build (id),
	config_id BIGINT NOT NULL REFERENCES apps_config (id),
	summary TEXT NOT NULL,
	state TEXT NOT NULL,
	reason TEXT NOT NULL,
	created BIGINT NOT NULL,
	UNIQUE (app_id, version)
);

CREATE TABLE apps_domain (
	domain TEXT NOT NULL UNIQUE,
	app_id BIGINT NOT NULL REFERENCES apps_app (id) ON DELETE CASCADE,
	author TEXT NOT NULL,
	created BIGINT NOT NULL
);
CREATE INDEX apps_domain_app ON apps_domain (app_id);

-- What happened to an app, in the words that its log shows.
CREATE TABLE apps_event (
	id {{id}},
	app_id BIGINT NOT NULL REFERENCES apps_app (id) ON DELETE CASCADE,
	level TEXT NOT NULL,
	body TEXT NOT NULL,
	created BIGINT NOT NULL
);
CREATE INDEX apps_event_app ON apps_event (app_id, id);
