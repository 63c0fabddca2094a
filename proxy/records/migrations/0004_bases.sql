-- Admitted images by the chainID of all their layers: what other images can be
-- proven to be built on.
CREATE TABLE bases (
  digest   TEXT PRIMARY KEY,
  chain_id TEXT NOT NULL,
  name     TEXT NOT NULL,
  layers   BIGINT NOT NULL,
  since    BIGINT NOT NULL
);
CREATE INDEX bases_chain_id ON bases (chain_id, since);
