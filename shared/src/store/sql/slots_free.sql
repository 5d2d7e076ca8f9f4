-- Frees the slots of guest runs. A slot beyond the host's cap goes away with its use.
WITH mine AS (
    SELECT s.host_id, s.slot_no, s.slot_no > coalesce(h.guest_threads, x.guest_threads) AS surplus
      FROM virtuozo_core.guest_slots s
      JOIN virtuozo_core.hosts h ON h.id = s.host_id
     CROSS JOIN virtuozo_core.settings x
     WHERE s.guest_run_id = ANY ($1::uuid[])
), gone AS (
    DELETE FROM virtuozo_core.guest_slots s
     USING mine WHERE s.host_id = mine.host_id AND s.slot_no = mine.slot_no AND mine.surplus
)
UPDATE virtuozo_core.guest_slots s
   SET guest_run_id = NULL, taken_at = NULL
  FROM mine
 WHERE s.host_id = mine.host_id AND s.slot_no = mine.slot_no AND NOT mine.surplus
