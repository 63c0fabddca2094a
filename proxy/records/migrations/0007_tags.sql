-- Who vouches for a tag's digest and what was done: alert (it is served), hold
-- or deny. Rows from before say nothing: they were served.
ALTER TABLE tag_history ADD COLUMN previous TEXT NOT NULL DEFAULT '';
ALTER TABLE tag_history ADD COLUMN class TEXT NOT NULL DEFAULT '';
ALTER TABLE tag_history ADD COLUMN action TEXT NOT NULL DEFAULT '';
ALTER TABLE tag_history ADD COLUMN reason TEXT NOT NULL DEFAULT '';
CREATE INDEX tag_history_digest ON tag_history (digest);

-- What the upstream lets a tag name in place of the digest that is served, and
-- since when.
CREATE TABLE tag_moves (
  name   TEXT NOT NULL,
  tag    TEXT NOT NULL,
  digest TEXT NOT NULL,
  since  BIGINT NOT NULL,
  class  TEXT NOT NULL,
  action TEXT NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (name, tag)
);

-- The newest lock files that were in force.
CREATE TABLE locks (
  name   TEXT PRIMARY KEY,
  serial BIGINT NOT NULL,
  digest TEXT NOT NULL,
  at     BIGINT NOT NULL
);

-- A base is known under each of its repositories: whoever copies one first must
-- not take its name away.
CREATE TABLE bases_2 (
  digest     TEXT NOT NULL,
  repository TEXT NOT NULL,
  chain_id   TEXT NOT NULL,
  name       TEXT NOT NULL,
  layers     BIGINT NOT NULL,
  created    BIGINT NOT NULL,
  since      BIGINT NOT NULL,
  PRIMARY KEY (digest, repository)
);
DROP TABLE bases;
ALTER TABLE bases_2 RENAME TO bases;
CREATE INDEX bases_chain_id ON bases (chain_id, since);
