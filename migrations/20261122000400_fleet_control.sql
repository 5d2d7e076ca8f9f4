-- Who leads among the schedulers, and what workers are asked to do.

-- At most one row: the leading scheduler. A lease, not a lock of a session: the session of a process that
-- is frozen stays open, its lease runs out. Correctness does not rest on it.
CREATE TABLE virtuozo_core.lead (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    scheduler_id uuid NOT NULL,
    lease_until  timestamptz NOT NULL
);

-- The worker takes nothing more, finishes or hands over what it has, and ends.
ALTER TABLE virtuozo_core.workers ADD COLUMN drain_requested boolean NOT NULL DEFAULT false;
