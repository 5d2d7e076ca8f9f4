-- Keeps the slots of every host equal to its cap. A surplus slot in use goes away when it is freed.
WITH cap AS (
    SELECT h.id, coalesce(h.guest_threads, s.guest_threads) AS slots
      FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
), surplus AS (
    DELETE FROM virtuozo_core.guest_slots g
     USING cap
     WHERE g.host_id = cap.id AND g.slot_no > cap.slots AND g.guest_run_id IS NULL
)
INSERT INTO virtuozo_core.guest_slots (host_id, slot_no)
SELECT cap.id, n
  FROM cap CROSS JOIN LATERAL generate_series(1, cap.slots) AS n
ON CONFLICT DO NOTHING
