-- When the upstream last said that a tag names its digest; 0 = not since "since".
ALTER TABLE tags ADD COLUMN confirmed BIGINT NOT NULL DEFAULT 0;
