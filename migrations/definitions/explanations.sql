-- What people are told of what waits, and of what was cancelled while it waited.

-- Why a guest run does not go on; NULL where it does, or has ended.
CREATE OR REPLACE FUNCTION virtuozo_core.waiting_reason(g virtuozo_core.guest_runs) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN g.state IN ('waiting', 'admitted') THEN coalesce(
        virtuozo_core.process_reason('worker'),
        virtuozo_core.kind_reason(g.host_id),
        CASE g.state WHEN 'admitted' THEN
            'has a slot; ' || coalesce((SELECT virtuozo_core.left_reason(n.kind, n.host_id, n.locations)
                                          FROM virtuozo_core.job_needs('virtuozo-guest', g.id) n),
                                       'the next worker with room for its host takes it') END,
        virtuozo_core.obstacle(g),
        virtuozo_core.process_reason('scheduler'),
        'its host ' || virtuozo_core.down_reason(g.host_id),
        'its turn comes with the next look of the scheduler')
    END;
END $$;

-- How far a guest run had come that is cancelled while nobody works on it.
CREATE OR REPLACE FUNCTION virtuozo_core.cancelled_where(g virtuozo_core.guest_runs) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(
        (SELECT format('cancelled while it waited to go on; step %s ', s.name)
                || CASE s.state WHEN 'done' THEN 'was done' WHEN 'failed' THEN 'had failed' ELSE 'was broken off' END
                || coalesce(': ' || coalesce(s.error, g.error), '')
           FROM virtuozo_core.steps s WHERE s.guest_run_id = g.id
          ORDER BY s.fence DESC, s.started_at DESC LIMIT 1),
        CASE WHEN g.fence = 0 THEN 'cancelled before it began'
             ELSE 'cancelled while it waited to go on' || coalesce(': ' || g.error, '') END);
END $$;
