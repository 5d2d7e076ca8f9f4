-- Hooks: commands before and after a run, and before and after the backup of a guest (docs/guide/hooks.md).

-- The command before a run, if there is one.
CREATE OR REPLACE FUNCTION virtuozo_core.hold_run(run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO virtuozo_core.hook_runs (run_id, moment, command, limit_secs, on_failure)
    SELECT run, h.moment, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id IS NULL AND h.moment = 'before';
    RETURN FOUND;
END $$;

-- A run ends in several ways, and all come past here. What has not ended of the command before it is of no use
-- any more: whoever runs that finds its lease lost.
CREATE OR REPLACE FUNCTION virtuozo_core.hook_after_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE virtuozo_core.hook_runs
       SET state = 'cancelled', lease_until = NULL, owner_id = NULL, ended_at = now(), error = 'the run ended before it'
     WHERE run_id = new.id AND moment = 'before' AND state IN ('waiting', 'running');
    INSERT INTO virtuozo_core.hook_runs (run_id, moment, outcome, command, limit_secs, on_failure)
    SELECT new.id, h.moment, new.state, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id IS NULL AND h.moment = 'after';
    RETURN NULL;
END $$;

-- The same for guest runs; its worker says which of them have such a command, so the others pay for no look.
CREATE OR REPLACE FUNCTION virtuozo_core.hook_after_guest_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO virtuozo_core.hook_runs (run_id, guest_run_id, moment, outcome, command, limit_secs, on_failure)
    SELECT new.run_id, new.id, h.moment, new.state, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id = new.guest_id AND h.moment = 'after';
    RETURN NULL;
END $$;
