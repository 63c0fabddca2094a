-- Waivers that operators granted by the API.
CREATE TABLE waivers (
  id       TEXT PRIMARY KEY,
  advisory TEXT NOT NULL,
  package  TEXT NOT NULL,
  rule     TEXT NOT NULL,
  secret   TEXT NOT NULL,
  path     TEXT NOT NULL,
  images   TEXT NOT NULL, -- JSON
  owner    TEXT NOT NULL,
  reason   TEXT NOT NULL,
  created  BIGINT NOT NULL,
  expires  BIGINT NOT NULL
);

-- The counter grows with every change of the blocklist and of the waivers.
UPDATE counters SET name = 'decisions' WHERE name = 'blocks';

-- Who pulled what, gathered over a few seconds.
CREATE TABLE pulls (
  name      TEXT NOT NULL,
  digest    TEXT NOT NULL,
  client    TEXT NOT NULL,
  last_pull BIGINT NOT NULL,
  pulls     BIGINT NOT NULL,
  PRIMARY KEY (name, digest, client)
);

-- Where a package is, and where an advisory applies, by small numbers that
-- stand for digests and packages.
CREATE TABLE manifests (
  id     INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE
);
CREATE TABLE packages (
  id         INTEGER PRIMARY KEY,
  purl       TEXT NOT NULL,
  base       TEXT NOT NULL, -- of the purl: no version, no qualifiers
  name_key   TEXT NOT NULL, -- PackageKey of the name
  source_key TEXT NOT NULL, -- of the source package, '' where it is the same
  UNIQUE (purl, name_key, source_key)
);
CREATE INDEX packages_base ON packages (base);
CREATE INDEX packages_name ON packages (name_key);
CREATE INDEX packages_source ON packages (source_key);
CREATE TABLE image_packages (
  manifest BIGINT NOT NULL,
  package  BIGINT NOT NULL,
  PRIMARY KEY (manifest, package)
);
CREATE INDEX image_packages_package ON image_packages (package);
CREATE TABLE image_findings (
  manifest BIGINT NOT NULL,
  advisory TEXT NOT NULL, -- an id or alias in upper case
  package  BIGINT NOT NULL,
  PRIMARY KEY (manifest, advisory, package)
);
CREATE INDEX image_findings_advisory ON image_findings (advisory);

-- Inventories that are not in the index above are made again, from the layers.
DELETE FROM inventories;
