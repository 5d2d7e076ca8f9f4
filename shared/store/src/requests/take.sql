-- $1: the request, $2: who takes it. The one way into 'running'.
UPDATE virtuozo_core.requests q
   SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken(q.fence, $2, s.lease_secs)),
       state = 'running',
       taken_by = coalesce((SELECT format('%s on %s', w.name, w.machine) FROM virtuozo_core.workers w WHERE w.id = $2), q.taken_by)
  FROM virtuozo_core.settings s
 WHERE q.id = $1 AND q.state = 'waiting' AND q.wanted_until > now()
RETURNING q.id, q.kind, q.host_id, q.owner_id, q.fence, s.lease_secs
