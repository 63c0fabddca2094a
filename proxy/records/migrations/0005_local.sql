-- The gated registry: which blobs a repository has, until when they were last
-- said to exist, and the manifests that were pushed.
CREATE TABLE local_blobs (
  name    TEXT NOT NULL,
  digest  TEXT NOT NULL,
  size    BIGINT NOT NULL,
  touched BIGINT NOT NULL,
  PRIMARY KEY (name, digest)
);
CREATE INDEX local_blobs_digest ON local_blobs (digest);
CREATE TABLE local_manifests (
  name          TEXT NOT NULL,
  digest        TEXT NOT NULL,
  media_type    TEXT NOT NULL,
  artifact_type TEXT NOT NULL,
  annotations   TEXT NOT NULL,
  subject       TEXT NOT NULL,
  size          BIGINT NOT NULL,
  pusher        TEXT NOT NULL,
  pushed        BIGINT NOT NULL,
  PRIMARY KEY (name, digest)
);
CREATE INDEX local_manifests_digest ON local_manifests (digest);
CREATE INDEX local_manifests_subject ON local_manifests (name, subject);

-- Secrets of machines, by their SHA-256.
CREATE TABLE robots (
  name    TEXT PRIMARY KEY,
  hash    BLOB NOT NULL,
  owner   TEXT NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL
);
