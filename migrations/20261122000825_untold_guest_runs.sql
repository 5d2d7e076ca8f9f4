-- Guest runs whose spans are still to be sent: looked for every second, also in a run of 100,000 guests.
CREATE INDEX guest_runs_untold ON virtuozo_core.guest_runs (run_id) WHERE ended_at IS NOT NULL AND NOT traced;
