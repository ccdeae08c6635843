-- A push is written down before its refs move (settled = 0) and settled with its event.
CREATE TABLE forge_push (
	id          TEXT PRIMARY KEY,
	repo        BIGINT NOT NULL,
	path        TEXT NOT NULL,
	pusher      BIGINT NOT NULL,
	pusher_name TEXT NOT NULL,
	updates     TEXT NOT NULL,
	at          BIGINT NOT NULL,
	settled     INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX forge_push_pending ON forge_push (repo) WHERE settled = 0;
CREATE INDEX forge_push_repo ON forge_push (repo, at);
