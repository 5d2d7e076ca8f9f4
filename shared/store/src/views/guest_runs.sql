-- The guests of one run, with what is needed to say why one of them waits. $1: the run.
SELECT gr.id, h.name AS host, g.name AS guest, gr.guest_id, gr.state, gr.mode, gr.step, gr.attempts, gr.crashes,
       gr.run_after, gr.run_after > now() AS is_delayed, gr.error, gr.error_class,
       gr.bytes_total, gr.bytes_copied, gr.progress_at,
       (SELECT max(s.started_at) FROM virtuozo_core.steps s WHERE s.guest_run_id = gr.id AND s.name = 'copy') AS copy_started_at,
       (v.output ->> 'bytes_total')::bigint AS verify_bytes_total, (v.output ->> 'bytes_read')::bigint AS verify_bytes_read,
       v.started_at AS verify_started_at,
       gr.created_at, gr.started_at, gr.ended_at,
       w.name AS worker,
       p.id AS point_id, p.taken_at, p.size_bytes, p.verified_at,
       o.slots, o.slots_busy,
       (SELECT count(*) FROM virtuozo_core.guest_runs o
        WHERE o.host_id = gr.host_id AND o.state = 'waiting'
          AND (o.created_at, o.id) < (gr.created_at, gr.id)) AS waiting_before,
       virtuozo_core.held_reason(gr.host_id) AS held_reason,
       virtuozo_core.waiting_reason(gr) AS waiting_reason
FROM virtuozo_core.guest_runs gr
JOIN virtuozo_core.hosts h ON h.id = gr.host_id
JOIN virtuozo_core.guests g ON g.id = gr.guest_id
-- Of the node that it would get a slot of now.
CROSS JOIN LATERAL (SELECT count(*) AS slots, count(s.guest_run_id) AS slots_busy
                      FROM virtuozo_core.guest_slots s WHERE s.host_id = gr.host_id AND s.node = coalesce(g.node, '')) o
LEFT JOIN virtuozo_core.workers w ON w.id = gr.owner_id
LEFT JOIN virtuozo_core.restore_points p ON p.guest_run_id = gr.id
LEFT JOIN virtuozo_core.steps v
       ON v.guest_run_id = gr.id AND v.fence = gr.fence AND v.name = 'verify' AND v.state = 'running' AND gr.step = 'verify'
WHERE gr.run_id = $1
ORDER BY h.name, g.name
