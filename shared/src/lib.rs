//! What scheduler and worker both say: model, store, queue, config, secrets, events, telemetry.
