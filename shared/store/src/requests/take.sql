-- $1: the request, $2: who takes it. The one way into 'running': raises the fence, so whatever an earlier owner still
-- writes hits no row.
UPDATE virtuozo_core.requests q
   SET fence = q.fence + 1,
       owner_id = $2,
       lease_until = now() + make_interval(secs => s.lease_secs),
       state = 'running',
       taken_by = coalesce((SELECT format('%s on %s', w.name, w.machine) FROM virtuozo_core.workers w WHERE w.id = $2), q.taken_by)
  FROM virtuozo_core.settings s
 WHERE q.id = $1 AND q.state = 'waiting' AND q.wanted_until > now()
RETURNING q.id, q.kind, q.host_id, q.owner_id, q.fence, s.lease_secs
