-- Every place that restore points go to, with what was free there last, and what the day brought.
WITH place AS (
    SELECT path FROM virtuozo_core.repository_space
    UNION SELECT destination FROM virtuozo_core.settings WHERE destination IS NOT NULL
    UNION SELECT destination FROM virtuozo_core.guests WHERE destination IS NOT NULL
)
SELECT p.path, s.free_bytes, s.seen_at, coalesce(n.points, 0) AS new_points,
       coalesce(n.size_bytes, 0)::bigint AS new_bytes
  FROM place p
  LEFT JOIN virtuozo_core.repository_space s USING (path)
  LEFT JOIN LATERAL (SELECT count(*) AS points, sum(x.size_bytes) AS size_bytes
                       FROM virtuozo_core.restore_points x
                      WHERE x.repository = p.path AND x.published_at > $1 AND x.published_at <= $2) n ON true
 ORDER BY p.path
