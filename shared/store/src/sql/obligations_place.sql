SELECT o.host_id
  FROM virtuozo_core.obligations o
 WHERE o.guest_id = $1
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.shut_hosts x WHERE x.host_id = o.host_id)
 LIMIT 1
