-- Hosts with their slots, for `status`.
SELECT h.id, h.name, h.kind, h.ignored, h.state, coalesce(virtuozo_core.down_reason(h.id), h.state_reason) AS state_reason, h.checked_at,
       (SELECT count(*) FROM virtuozo_core.guest_slots s WHERE s.host_id = h.id) AS slots,
       (SELECT count(s.guest_run_id) FROM virtuozo_core.guest_slots s WHERE s.host_id = h.id) AS slots_busy,
       (SELECT coalesce(jsonb_agg(to_jsonb(n) ORDER BY n.node), '[]')
          FROM (SELECT s.node, count(*) AS slots, count(s.guest_run_id) AS slots_busy
                  FROM virtuozo_core.guest_slots s WHERE s.host_id = h.id AND s.node <> '' GROUP BY s.node) n) AS nodes,
       p.since AS paused_since, p.by AS paused_by, coalesce(p.with_all, false) AS paused_with_all
  FROM virtuozo_core.hosts h
  LEFT JOIN virtuozo_core.paused_hosts p ON p.host_id = h.id
 ORDER BY h.name
