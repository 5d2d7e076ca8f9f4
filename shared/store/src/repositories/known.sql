-- The id of the repository at a path; where none is known, the restore points that are recorded there.
SELECT i.id,
       CASE WHEN i.id IS NULL
            THEN ARRAY(SELECT p.path FROM virtuozo_core.restore_points p
                        WHERE rtrim(p.repository, '/') = rtrim($1, '/')
                        ORDER BY p.taken_at DESC)
            ELSE '{}'
       END AS points
  FROM (SELECT $1::text AS path) w
  LEFT JOIN virtuozo_core.repository_ids i USING (path)
