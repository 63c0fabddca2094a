-- Images whose signatures satisfied a policy, so that no registry need be asked
-- again: the last such result by the policy's name, and what it rested on.
CREATE TABLE trusted (
  name    TEXT NOT NULL,
  digest  TEXT NOT NULL,
  policy  TEXT NOT NULL,
  basis   TEXT NOT NULL,
  at      BIGINT NOT NULL,
  body    BLOB NOT NULL,
  PRIMARY KEY (name, digest, policy)
);
