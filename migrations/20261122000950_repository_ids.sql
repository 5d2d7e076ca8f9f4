-- Which repository lies at a path: the id in its marker, known since its first use. It tells a repository from
-- the empty directory under its mount point, and from another one at its place.

CREATE TABLE virtuozo_core.repository_ids (
    path     text PRIMARY KEY CHECK (path <> ''),   -- the destination directory, without slashes at its end
    id       uuid NOT NULL,
    known_at timestamptz NOT NULL DEFAULT now()
);
