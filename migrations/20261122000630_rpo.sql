-- The recovery point objective: how old a guest's newest good restore point may become before somebody has
-- to be told. 0: none. The site's default fits a daily backup from Monday to Friday: 72 hours over the
-- weekend, and two for the backup itself.
ALTER TABLE virtuozo_core.settings
    ADD COLUMN rpo_secs integer NOT NULL DEFAULT 266400 CHECK (rpo_secs >= 0);
ALTER TABLE virtuozo_core.guests
    ADD COLUMN rpo_secs integer CHECK (rpo_secs >= 0);      -- NULL: the site's setting

-- One row for each guest that is to be backed up. A guest without a restore point has its age counted from
-- when it became known.
CREATE VIEW virtuozo.rpo AS
SELECT g.id, h.name AS host, g.name AS guest, g.vmx_path, o.rpo_secs, p.taken_at AS last_point_at,
       a.age_secs, coalesce(a.age_secs > o.rpo_secs, false) AS exceeded
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
 CROSS JOIN virtuozo_core.settings s
 CROSS JOIN LATERAL (SELECT nullif(coalesce(g.rpo_secs, s.rpo_secs), 0) AS rpo_secs) o
  LEFT JOIN LATERAL (SELECT x.taken_at FROM virtuozo_core.restore_points x
                      WHERE x.guest_id = g.id AND x.state = 'published' ORDER BY x.taken_at DESC LIMIT 1) p ON true
 CROSS JOIN LATERAL (SELECT round(extract(epoch FROM now() - coalesce(p.taken_at, g.created_at)))::bigint AS age_secs) a
 WHERE g.configured AND NOT g.ignored AND NOT h.ignored;

SELECT virtuozo_core.grant_roles();
