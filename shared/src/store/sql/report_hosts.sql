-- Hosts with their slots, for `status`.
SELECT h.id, h.name, h.kind, h.ignored, h.state, coalesce(virtuozo_core.down_reason(h.id), h.state_reason) AS state_reason, h.checked_at,
       count(s.slot_no) AS slots,
       count(s.guest_run_id) AS slots_busy
FROM virtuozo_core.hosts h
LEFT JOIN virtuozo_core.guest_slots s ON s.host_id = h.id
GROUP BY h.id
ORDER BY h.name
