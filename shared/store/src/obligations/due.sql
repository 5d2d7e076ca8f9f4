-- Guests with due obligations that nobody works on, without a job on its way. Of a host that did not answer
-- one guest is enough to probe it.
SELECT d.guest_id
  FROM (SELECT o.guest_id, x.host_id IS NOT NULL AS is_down,
               row_number() OVER (PARTITION BY o.host_id ORDER BY min(o.next_attempt_at)) AS n
          FROM virtuozo_core.obligations o
          LEFT JOIN virtuozo_core.circuit_breakers x ON x.host_id = o.host_id
         WHERE o.next_attempt_at <= now()
           AND virtuozo_core.is_open(x.open_until, x.lease_until) IS NOT TRUE
           AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations c WHERE c.guest_id = o.guest_id AND virtuozo_core.is_held(c.lease_until))
           AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g
                            WHERE g.guest_id = o.guest_id AND g.state IN ('admitted', 'running'))
         GROUP BY o.guest_id, o.host_id, x.host_id) d
 WHERE (d.n = 1 OR NOT d.is_down)
   AND NOT virtuozo_core.is_on_its_way($1, d.guest_id)
