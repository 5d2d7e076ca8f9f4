//! Restore points at rest: copy engine, layout, manifest, verify, retention, restore.
