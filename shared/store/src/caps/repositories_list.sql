-- Every place that restore points go to or have a cap, and how many guests are in work there.
WITH destination AS (
    SELECT destination AS path FROM virtuozo_core.settings WHERE destination IS NOT NULL
    UNION SELECT destination FROM virtuozo_core.guests WHERE destination IS NOT NULL
), place AS (
    SELECT path FROM virtuozo_core.repositories
    UNION SELECT path FROM destination
)
SELECT p.path, r.guest_threads,
       (SELECT count(*)
          FROM virtuozo_core.guest_slots x
          JOIN virtuozo_core.guest_runs g ON g.id = x.guest_run_id
          JOIN virtuozo_core.guests u ON u.id = g.guest_id
         CROSS JOIN virtuozo_core.settings s
         WHERE coalesce(u.destination, s.destination) = p.path) AS in_work,
       p.path IN (SELECT d.path FROM destination d) AS is_destination
  FROM place p
  LEFT JOIN virtuozo_core.repositories r USING (path)
 ORDER BY p.path
