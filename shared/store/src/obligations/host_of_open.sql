SELECT o.host_id
  FROM virtuozo_core.obligations o
 WHERE o.guest_id = $1
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x
                    WHERE x.host_id = o.host_id AND virtuozo_core.is_open(x.open_until, x.lease_until))
 LIMIT 1
