-- Due notices, and those whose sender is gone, whose job nobody will deliver any more.
SELECT n.id
  FROM virtuozo_core.notices n
 WHERE n.kind <> 'test'
   AND ((n.state = 'waiting' AND n.run_after < now() - interval '3 seconds')
        OR (n.state = 'sending' AND virtuozo_core.is_over(n.lease_until)))
   AND NOT virtuozo_core.is_on_its_way($1, n.id)
   FOR NO KEY UPDATE OF n SKIP LOCKED
