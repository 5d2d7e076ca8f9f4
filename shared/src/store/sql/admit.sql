-- Pairs the free slots of a host with its oldest waiting guest runs. A guest in work, or being undone,
-- waits; of two runs of one guest the older goes first; a paused host gets nothing, nor does one whose gate
-- is shut. One that did not answer is to be probed first: one guest is enough for that.
-- The caller holds the host's row lock. Their jobs are pushed with it; one row for each, with its run.
WITH gate AS (
    SELECT shut_until FROM virtuozo_core.host_gates WHERE host_id = $1
), slot AS (
    SELECT s.slot_no, row_number() OVER (ORDER BY s.slot_no) AS n
      FROM (SELECT slot_no FROM virtuozo_core.guest_slots
             WHERE host_id = $1 AND guest_run_id IS NULL AND NOT virtuozo_core.is_paused($1)
               AND NOT EXISTS (SELECT 1 FROM gate WHERE shut_until > now())
             ORDER BY slot_no
             LIMIT (SELECT 1 FROM gate)
               FOR UPDATE SKIP LOCKED) s
), next AS (
    SELECT w.id, row_number() OVER (ORDER BY w.created_at, w.id) AS n
      FROM (SELECT g.id, g.created_at
              FROM virtuozo_core.guest_runs g
             WHERE g.host_id = $1 AND g.state = 'waiting' AND g.run_after <= now()
               AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                                WHERE o.guest_id = g.guest_id AND o.state IN ('admitted', 'running'))
               AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                                WHERE o.guest_id = g.guest_id AND o.state = 'waiting' AND o.run_after <= now()
                                  AND (o.created_at, o.id) < (g.created_at, g.id))
               AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                                WHERE o.guest_id = g.guest_id AND o.claimed_until > now())
             ORDER BY g.created_at, g.id
             LIMIT (SELECT count(*) FROM slot)
               FOR UPDATE OF g SKIP LOCKED) w
), taken AS (
    UPDATE virtuozo_core.guest_slots s
       SET guest_run_id = next.id, taken_at = now()
      FROM slot JOIN next USING (n)
     WHERE s.host_id = $1 AND s.slot_no = slot.slot_no
 RETURNING s.guest_run_id
), admitted AS (
    UPDATE virtuozo_core.guest_runs g
       SET state = 'admitted', admitted_at = now()
      FROM taken
     WHERE g.id = taken.guest_run_id
 RETURNING g.id, g.run_id
)
SELECT run_id, virtuozo_core.push_job('virtuozo-guest', 'guest_run_id', id) FROM admitted
