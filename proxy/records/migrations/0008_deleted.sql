-- Manifests that were taken out of the gated registry, while something there
-- may still refer to them.
CREATE TABLE local_deleted (
  name   TEXT NOT NULL,
  digest TEXT NOT NULL,
  at     BIGINT NOT NULL,
  PRIMARY KEY (name, digest)
);
