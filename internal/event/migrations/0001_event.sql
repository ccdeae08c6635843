CREATE TABLE event_outbox (
	id {{id}},
	type TEXT NOT NULL,
	body TEXT NOT NULL,
	at BIGINT NOT NULL
);
CREATE INDEX event_outbox_type ON event_outbox (type, id);

-- seen: the last event that the handler has dealt with.
CREATE TABLE event_cursor (
	handler TEXT PRIMARY KEY,
	type TEXT NOT NULL,
	seen BIGINT NOT NULL,
	used BIGINT NOT NULL
);
