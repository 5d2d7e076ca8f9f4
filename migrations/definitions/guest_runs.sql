-- What a guest run writes down: what was seen of the guest, its steps, its obligations.

-- The hooks of guests, as they are read with the guest.
CREATE OR REPLACE VIEW virtuozo_core.guest_hooks AS
SELECT guest_id, jsonb_agg(jsonb_build_object('moment', moment, 'command', command, 'limit_secs', limit_secs,
                                              'on_failure', on_failure) ORDER BY moment) AS hooks
  FROM virtuozo_core.hooks
 WHERE guest_id IS NOT NULL
 GROUP BY guest_id;

-- A guest as it is read everywhere.
CREATE OR REPLACE VIEW virtuozo_core.guest_details AS
SELECT g.id, g.host_id, h.name AS host_name, g.locator, g.name, g.configured, g.ignored, g.destination, g.mode,
       g.resume_power_state, g.backup_when_off, g.keep_last, g.rpo_secs, g.state, g.state_reason, g.power, g.checked_at,
       coalesce((SELECT k.hooks FROM virtuozo_core.guest_hooks k WHERE k.guest_id = g.id), '[]') AS hooks,
       g.uuid, g.node, g.change_ids, g.crashes
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id;

-- What validation found out about a guest and its disks. A guest about which nobody has decided stays so,
-- whatever state it is in. Disks that its configuration no longer names are marked, so that what was said
-- about them (ignored) is still known should they come back.
CREATE OR REPLACE FUNCTION virtuozo_core.guest_seen(guest uuid, its_name text, its_power text, its_state text, reason text,
                                         devices text[], files text[], capacities bigint[], problems text[],
                                         its_node text, its_change_ids text[], its_datastore text, datastores text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    before record;
BEGIN
    SELECT g.host_id, coalesce(g.node, '') AS node, coalesce(g.node, '') <> coalesce(its_node, '') AS is_elsewhere
      INTO before FROM virtuozo_core.guests g WHERE g.id = guest;
    -- The host before the guest, as those lock them who apply its inventory.
    IF before.is_elsewhere THEN
        PERFORM 1 FROM virtuozo_core.hosts h WHERE h.id = before.host_id FOR NO KEY UPDATE;
    END IF;
    UPDATE virtuozo_core.guests
       SET name = its_name, power = its_power, node = its_node, change_ids = its_change_ids,
           datastore = its_datastore,
           state = CASE WHEN configured THEN its_state ELSE 'not_configured' END,
           state_reason = reason, checked_at = now()
     WHERE id = guest;
    -- The first guest on a node, where a slot that is in use may be left, or the last that leaves one.
    IF before.is_elsewhere
       AND (NOT EXISTS (SELECT 1 FROM virtuozo_core.guests g
                         WHERE g.host_id = before.host_id AND coalesce(g.node, '') = coalesce(its_node, '') AND g.id <> guest)
            OR NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s
                            WHERE s.host_id = before.host_id AND s.node = coalesce(its_node, ''))
            OR NOT EXISTS (SELECT 1 FROM virtuozo_core.guests g
                            WHERE g.host_id = before.host_id AND coalesce(g.node, '') = before.node)) THEN
        PERFORM virtuozo_core.sync_slots(before.host_id);
    END IF;
    UPDATE virtuozo_core.disks
       SET state = 'not_in_inventory', state_reason = 'the guest''s configuration does not name it',
           checked_at = now()
     WHERE guest_id = guest AND device <> ALL (devices);
    INSERT INTO virtuozo_core.disks (id, guest_id, device, file_name, datastore, capacity_bytes, state, state_reason, checked_at)
    SELECT gen_random_uuid(), guest, seen.device, seen.file_name, seen.datastore, seen.capacity_bytes,
           CASE WHEN seen.problem IS NULL THEN 'ok' ELSE 'invalid' END, seen.problem, now()
      FROM unnest(devices, files, capacities, problems, datastores)
        AS seen (device, file_name, capacity_bytes, problem, datastore)
    ON CONFLICT (guest_id, device) DO UPDATE
       SET file_name = excluded.file_name, datastore = excluded.datastore,
           capacity_bytes = coalesce(excluded.capacity_bytes, disks.capacity_bytes),
           state = excluded.state, state_reason = excluded.state_reason, checked_at = excluded.checked_at;
END $$;

-- A step's output, the begin of the next, and what else is known with it, all or none: without the fence
-- nothing happens, and it is false. devices, totals and copied: how far the copy is; met and met_fences:
-- obligations that were seen to be met, each with the fence that it had then, as a newer run may have renewed it.
CREATE OR REPLACE FUNCTION virtuozo_core.step_done(guest_run uuid, under bigint, done text, left_behind jsonb, begun text, plan text,
                                        devices text[], totals bigint[], copied bigint[], met uuid[], met_fences bigint[])
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    to_copy bigint;
    so_far bigint;
    owner uuid;
BEGIN
    IF cardinality(devices) > 0 THEN
        SELECT sum(p.total), sum(p.copied) INTO to_copy, so_far FROM unnest(totals, copied) AS p (total, copied);
    END IF;
    -- IS TRUE: the row is to be found by its key. For the bare condition a plan may go through all that is in
    -- work, along an index that has nothing else.
    UPDATE virtuozo_core.guest_runs
       SET step = coalesce(begun, step), mode = coalesce(plan, mode),
           bytes_total = coalesce(to_copy, bytes_total), bytes_copied = coalesce(so_far, bytes_copied),
           progress_at = CASE WHEN to_copy IS NULL THEN progress_at ELSE now() END
     WHERE id = guest_run AND fence = under AND (state = 'running') IS TRUE
 RETURNING owner_id INTO owner;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE virtuozo_core.steps SET state = 'done', output = left_behind, ended_at = now()
     WHERE guest_run_id = guest_run AND fence = under AND name = done;
    IF begun IS NOT NULL THEN
        INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, worker_id) VALUES (guest_run, under, begun, owner)
        ON CONFLICT (guest_run_id, fence, name)
        DO UPDATE SET state = 'running', output = NULL, error = NULL, error_type = NULL, error_code = NULL,
                      started_at = now(), ended_at = NULL;
    END IF;
    IF cardinality(devices) > 0 THEN
        INSERT INTO virtuozo_core.disk_progress (guest_run_id, device, bytes_total, bytes_copied)
        SELECT guest_run, p.device, p.total, p.copied FROM unnest(devices, totals, copied) AS p (device, total, copied)
        ON CONFLICT (guest_run_id, device)
        DO UPDATE SET bytes_total = excluded.bytes_total, bytes_copied = excluded.bytes_copied, updated_at = now();
    END IF;
    IF cardinality(met) > 0 THEN
        DELETE FROM virtuozo_core.obligations o
         USING unnest(met, met_fences) AS m (id, fence)
         WHERE o.id = m.id AND o.guest_run_id = guest_run AND o.guest_run_fence = m.fence;
    END IF;
    RETURN true;
END $$;
