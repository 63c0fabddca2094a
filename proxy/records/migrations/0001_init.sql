-- What analyses found; bodies are JSON, compressed by zstd.
CREATE TABLE layers (
  blob     TEXT NOT NULL,
  revision TEXT NOT NULL,
  body     BLOB NOT NULL,
  PRIMARY KEY (blob, revision)
);
CREATE TABLE inventories (
  manifest TEXT NOT NULL,
  revision TEXT NOT NULL,
  body     BLOB NOT NULL,
  PRIMARY KEY (manifest, revision)
);

-- What was asked for, under which names.
CREATE TABLE images (
  name          TEXT NOT NULL,
  digest        TEXT NOT NULL,
  media_type    TEXT NOT NULL,
  first_seen    BIGINT NOT NULL,
  allowed_since BIGINT NOT NULL DEFAULT 0,
  last_pull     BIGINT NOT NULL DEFAULT 0,
  last_client   TEXT NOT NULL DEFAULT '',
  pulls         BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (name, digest)
);
CREATE INDEX images_digest ON images (digest);
CREATE TABLE tags (
  name   TEXT NOT NULL,
  tag    TEXT NOT NULL,
  digest TEXT NOT NULL,
  since  BIGINT NOT NULL,
  PRIMARY KEY (name, tag)
);
CREATE INDEX tags_digest ON tags (name, digest);
CREATE TABLE tag_history (
  seq    INTEGER PRIMARY KEY,
  name   TEXT NOT NULL,
  tag    TEXT NOT NULL,
  digest TEXT NOT NULL,
  at     BIGINT NOT NULL
);
CREATE INDEX tag_history_tag ON tag_history (name, tag, seq);
CREATE TABLE members (
  name     TEXT NOT NULL,
  manifest TEXT NOT NULL,
  member   TEXT NOT NULL,
  PRIMARY KEY (name, member, manifest)
);
CREATE INDEX members_manifest ON members (name, manifest);

-- Since when a finding is known for an image.
CREATE TABLE known_findings (
  name     TEXT NOT NULL,
  digest   TEXT NOT NULL,
  advisory TEXT NOT NULL,
  package  TEXT NOT NULL,
  since    BIGINT NOT NULL,
  PRIMARY KEY (name, digest, advisory, package)
);

-- The verdict in force on each image, the ids that its reasons name, and all
-- verdicts that were different from the one before.
CREATE TABLE verdicts (
  image    TEXT NOT NULL,
  digest   TEXT NOT NULL,
  seq      BIGINT NOT NULL UNIQUE,
  id       TEXT NOT NULL,
  decision INTEGER NOT NULL,
  at       BIGINT NOT NULL,
  body     BLOB NOT NULL,
  PRIMARY KEY (image, digest)
);
CREATE INDEX verdicts_digest ON verdicts (digest);
CREATE TABLE verdict_advisories (
  image    TEXT NOT NULL,
  digest   TEXT NOT NULL,
  advisory TEXT NOT NULL,
  PRIMARY KEY (advisory, image, digest)
);
CREATE INDEX verdict_advisories_image ON verdict_advisories (image, digest);
CREATE TABLE verdict_history (
  seq      INTEGER PRIMARY KEY,
  image    TEXT NOT NULL,
  digest   TEXT NOT NULL,
  id       TEXT NOT NULL,
  decision INTEGER NOT NULL,
  at       BIGINT NOT NULL,
  body     BLOB NOT NULL
);
CREATE INDEX verdict_history_image ON verdict_history (image, digest, seq);

-- Operators' decisions.
CREATE TABLE blocks (
  id       TEXT PRIMARY KEY,
  digest   TEXT NOT NULL,
  image    TEXT NOT NULL,
  layer    TEXT NOT NULL,
  package  TEXT NOT NULL,
  advisory TEXT NOT NULL,
  reason   TEXT NOT NULL,
  owner    TEXT NOT NULL,
  created  BIGINT NOT NULL,
  expires  BIGINT NOT NULL
);
CREATE TABLE audit (
  seq     INTEGER PRIMARY KEY,
  at      BIGINT NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  target  TEXT NOT NULL,
  before  TEXT NOT NULL,
  after   TEXT NOT NULL
);
CREATE TABLE counters (
  name  TEXT PRIMARY KEY,
  value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('blocks', 1);
