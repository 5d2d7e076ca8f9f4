-- What is to be known before a guest run is begun, in one look. IS TRUE: found by its key, whatever is in work.
SELECT g.*, to_jsonb(s) AS settings,
       ARRAY(SELECT d.device FROM virtuozo_core.disks d WHERE d.guest_id = g.id AND d.ignored) AS ignored_disks,
       EXISTS (SELECT 1 FROM virtuozo_core.obligations o WHERE o.guest_id = g.id) AS has_obligations
  FROM virtuozo_core.guest_runs r
  JOIN virtuozo_core.guest_details g ON g.id = r.guest_id
 CROSS JOIN virtuozo_core.settings s
 WHERE r.id = $1 AND (r.state = 'admitted') IS TRUE
